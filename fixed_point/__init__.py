"""The integer network, its arithmetic and its interpreters: everything that needs neither torch nor Lava."""
