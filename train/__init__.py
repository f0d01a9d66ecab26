"""Random-tau spiking networks in PyTorch: neurons, models, data, attacks, training, checkpoints."""
