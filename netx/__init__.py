"""NetX HDF5 (`.net`): writing, reading, and the files of lava-dl."""
