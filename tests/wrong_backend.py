"""A backend with a mistake in it: the reference, run on a network with one weight changed by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from randhet.fixed_point import reference
from randhet.fixed_point.network import Conv, Network
from randhet.fixed_point.result import Result


def changed(network: Network) -> Network:
    """The middle weight of the first channel of layer 1, one step towards zero."""
    layer = network.layers[1]
    assert isinstance(layer.operation, Conv)
    weight = layer.operation.weight.copy()
    weight[0, 0, 1, 1] -= np.sign(weight[0, 0, 1, 1]) or 1
    layers = list(network.layers)
    layers[1] = replace(layer, operation=replace(layer.operation, weight=weight))
    return replace(network, layers=tuple(layers))


def run(network: Network, images: np.ndarray, **options: Any) -> Result:
    """As the reference's."""
    return reference.run(changed(network), images, **options)
