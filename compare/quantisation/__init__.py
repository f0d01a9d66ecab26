"""How many bits are enough, and what each part of the arithmetic costs."""
