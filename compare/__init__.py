"""Float against fixed point, backends against each other, and what the differences mean."""
