"""Adversarial attacks in L-inf on images in 0..1, one algorithm per file; `names.py` reads names like `apgd50x20`."""
