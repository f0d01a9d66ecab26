"""Randomised networks without spikes, on a ResNet of the size of the spiking ones: what RandHet is compared with.

| baseline | what is drawn anew at every forward pass |
| --- | --- |
| `relu` | nothing: the same ResNet, deterministic |
| `ctrw` | the factor of every value behind the first convolution |
| `rpf` | three in four filters of the first convolution |
| `rna` | how each layer normalises |
"""
