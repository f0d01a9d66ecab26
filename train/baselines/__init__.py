"""Randomised networks without spikes, on a ResNet of the size of the spiking ones: what RandHet is compared with.

| baseline | what is drawn anew at every forward pass |
| --- | --- |
| `relu` | nothing: the same ResNet, deterministic |
| `ctrw` | the factor of every value of the normalised image |
| `rpf` | three in four filters of the first convolution |
| `rna` | how each layer normalises |

The authors' evaluations hold a draw through all iterations of PGD and draw again before they count an answer. Here
every forward pass draws, so that each iteration of an attack sees another network; `pgd10x20` averages 20 of them.
"""
