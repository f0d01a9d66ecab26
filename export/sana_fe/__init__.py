"""Files of SANA-FE, a simulator of neuromorphic chips, and what a run costs by its accounting."""
