"""Image data by name or path."""
