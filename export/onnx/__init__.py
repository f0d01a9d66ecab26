"""ONNX: the float model and the integer network as graphs."""
