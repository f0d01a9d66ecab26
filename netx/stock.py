"""What stock NetX reads of a CUBA neuron beside the fields it shares with ours, and how it keeps a bias.

None of it says anything new: it follows from the neuron's fields, and a file that says otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from randhet.fixed_point.layers import Cuba, Leaky, Lif, Neuron, ReadOut

SHIFT = 6
"""Stock NetX shifts sums, vThMant and bias mantissas by this much; its bias mantissa is an int16."""
EXTRAS: Mapping[type, tuple[str, ...]] = {
    Lif: (),
    Cuba: ("refDelay", "gradedSpike", "bias_exp", "vThMant"),
    ReadOut: (),
    Leaky: (),
}


def extras(neuron: Neuron, recurrent: bool) -> dict[str, int]:
    """The datasets of neuron/ that only stock NetX needs; it refuses the layer where vThMant is missing.

    recurrent: the layer has recurrent weights, under a name that stock NetX would pass over.
    """
    if not isinstance(neuron, Cuba):
        return {}
    known = has_words(neuron) and not recurrent
    fields = {"refDelay": 1, "gradedSpike": 0, "bias_exp": SHIFT if known else 0}
    return fields | ({"vThMant": int(neuron.threshold[0]) >> SHIFT} if known else {})


def has_words(neuron: Cuba) -> bool:
    """Whether stock NetX can say the neuron: one threshold mantissa, a bias mantissa per channel, f of 6."""
    unit, bias, threshold = 1 << SHIFT, neuron.bias.astype(np.int64), neuron.threshold
    whole = not (bias % unit).any() and not (threshold % unit).any() and len(np.unique(threshold)) == 1
    fits = bool((np.abs(bias) < 2 ** (15 + SHIFT)).all())
    return neuron.f == SHIFT and bias.ndim == 1 and whole and fits
