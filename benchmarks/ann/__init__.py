"""What a user would run instead: the same layers and weights as a ReLU network of 8-bit integers, in one pass."""
