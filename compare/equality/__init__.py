"""Integers against integers, and against the float model, value by value."""
