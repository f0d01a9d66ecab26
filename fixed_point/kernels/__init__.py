"""Vector code and compiled kernels that the engines share."""
