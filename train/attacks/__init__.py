"""Adversarial attacks on images in 0..1, one per file."""
