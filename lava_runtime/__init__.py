"""The integer network as Lava processes, run the way Loihi would run it. Needs Lava."""
