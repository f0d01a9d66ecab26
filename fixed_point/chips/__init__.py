"""Chips as data, and how a network fits one: mapping, rules, energy."""
