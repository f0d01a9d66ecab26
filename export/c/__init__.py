"""A network as C99 without multiplication, library or heap: for processors without a multiplier.

`write` makes the text of a program's files; `run` compiles and runs it here as the backend `c`. The kernels are the C
files in this folder; what is generated holds the constants of one network and calls the kernels.
"""
