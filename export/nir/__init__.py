"""NIR: graphs of other tools in, ours out."""
