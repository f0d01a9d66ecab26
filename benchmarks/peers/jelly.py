"""SpikingJelly: its multi-step layers; random decay by overriding `neuronal_charge`, its way to own neurons."""

from __future__ import annotations

from functools import partial

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from randhet.benchmarks.peers.network import Kit, PeerNetwork, loaded
from randhet.train.checkpoint import Checkpoint


class RandomNode(neuron.SimpleBaseNode):
    """H[t] = X[t] + tau*(V[t-1] - X[t]), tau = sigmoid(sigma*n) anew; spikes where H >= threshold, as all its nodes."""

    def __init__(self, sigma: float, **options: object) -> None:
        super().__init__(**options)
        self.sigma = sigma

    v: Tensor

    def neuronal_charge(self, x: Tensor) -> None:
        tau = torch.sigmoid(self.sigma * torch.randn_like(x))
        self.v = torch.lerp(x, torch.as_tensor(self.v, dtype=x.dtype), tau)


class JellyNetwork(PeerNetwork):
    """Images (N, C, Y, X) in 0..1 to logits (N, classes)."""

    def forward(self, images: Tensor) -> Tensor:
        functional.reset_net(self)
        current = self.stem(images)
        return self.body(current.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1)).mean(0)


def make(checkpoint: Checkpoint, random: bool) -> nn.Module:
    """The network of a checkpoint; constant taus are the library's LIFNode with tau = 2."""
    s = checkpoint.settings
    common = {
        "v_threshold": s.threshold,
        "v_reset": 0.0,
        "surrogate_function": surrogate.ATan(),
        "detach_reset": True,
        "step_mode": "m",
    }
    node = partial(RandomNode, s.sigma, **common) if random else partial(neuron.LIFNode, tau=2.0, **common)
    kit = Kit(partial(layer.Conv2d, step_mode="m"), partial(layer.BatchNorm2d, step_mode="m"), node)
    model: nn.Module = loaded(JellyNetwork(s, checkpoint.mean, checkpoint.std, kit), checkpoint)
    return model
