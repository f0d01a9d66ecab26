"""Weight scales: the candidates of each policy, from the largest weight down, and the choice of the best of them.

A weight w becomes s * clip(round(w / s), -M, M), M = 2^(bits-1) - 1. The first candidate clips nothing, s = max|w| / M.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Scales = Literal["channel", "layer", "power-of-two"]
SCALES: tuple[Scales, ...] = ("channel", "layer", "power-of-two")
RATIOS = tuple(1 - i / 20 for i in range(14))
"""Parts of the largest weight at which the others may be clipped."""
HAIR = 1e-5
"""A scale this little above a power of two, in octaves, is that power."""
FLOOR = 1 / 64
"""Smallest scale of a channel relative to its layer's largest; keeps nearly dead channels inside 24 bits."""


def mantissa(bits: int) -> int:
    """Largest weight, 127 for 8 bits."""
    return int(2 ** (bits - 1)) - 1


def power_above(scale: Tensor) -> Tensor:
    """The least power of two that is no smaller."""
    return torch.exp2(torch.ceil(torch.log2(scale) - HAIR))


def _ratios(widest: Tensor) -> Tensor:
    return widest * torch.tensor(RATIOS, dtype=widest.dtype).unsqueeze(1)


CANDIDATES: dict[str, Callable[[Tensor], Tensor]] = {
    "channel": _ratios,
    "layer": lambda widest: _ratios(widest.max().expand_as(widest)),
    "power-of-two": lambda widest: power_above(widest) * torch.exp2(-torch.arange(3, dtype=widest.dtype)).unsqueeze(1),
}


def candidates(folded: Tensor, bits: int, scales: Scales) -> Tensor:
    """(candidates, channels) of weights (channels, ...), widest first.

    A channel of zeros takes the layer's widest, a layer of zeros 1.
    """
    peak = folded.flatten(1).abs().amax(1)
    top = peak.max()
    peak = torch.where(peak > 0, peak, top if top > 0 else torch.full_like(top, mantissa(bits)))
    return CANDIDATES[scales](peak / mantissa(bits))


def best(errors: Tensor, scales: Scales) -> Tensor:
    """Which candidate has the least error (candidates, channels) in each channel, or in the layer; widest of equals."""
    whole = errors.sum(1, keepdim=True).expand_as(errors) if scales == "layer" else errors
    return whole.argmin(0)


def chosen(candidate_scales: Tensor, choice: Tensor, scales: Scales, floor: float = FLOOR) -> Tensor:
    """The chosen candidates (channels,), none below its floor."""
    scale = candidate_scales.gather(0, choice.unsqueeze(0))[0]
    least = scale.max() * floor
    return scale.clamp_min(power_above(least) if scales == "power-of-two" else least)


def rounded(folded: Tensor, scale: Tensor, bits: int) -> Tensor:
    """clip(round(w / s), -M, M) for weights (channels, ...) and scales (..., channels), ties to even."""
    wide = scale.reshape(*scale.shape, *[1] * (folded.dim() - 1))
    return torch.round(folded / wide).clamp_(-mantissa(bits), mantissa(bits))


def nearest(folded: Tensor, bits: int, scales: Scales) -> Tensor:
    """For each channel the candidate that changes its weights least, in mean square."""
    flat = folded.flatten(1)
    candidate_scales = candidates(folded, bits, scales)
    errors = [(flat - rounded(flat, scale, bits) * scale.unsqueeze(1)).square().sum(1) for scale in candidate_scales]
    return best(torch.stack(errors), scales)
