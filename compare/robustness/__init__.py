"""Accuracy under attack, in float and after deployment."""
