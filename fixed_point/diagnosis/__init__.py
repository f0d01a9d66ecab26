"""Where and why two runs of one network differ."""
