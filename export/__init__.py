"""From a trained model to the integer network and its file. Reading and writing files needs no torch."""
