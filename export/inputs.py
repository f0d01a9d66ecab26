"""Images where they meet a graph that takes them in one row."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from randhet.export.graph import ExportError, FloatGraph, FloatInput
from randhet.fixed_point.network import Input, Network, Shape


def fitted(graph: FloatGraph, images: np.ndarray) -> np.ndarray:
    """Images (N, C, Y, X) as the graph takes them: in one row where its input is one; ExportError where none fits."""
    (wanted,) = (node.operation.shape for node in graph.nodes if isinstance(node.operation, FloatInput))
    if images.shape[1:] != wanted and (prod(images.shape[1:]),) != wanted:
        raise ExportError(f"the graph takes images of {wanted}, these are {images.shape[1:]}")
    return images.reshape(-1, *wanted)


def for_images(flat_network: Network, shape: Shape) -> Network:
    """The network with an input of this shape; a dense layer reads its values in the order of a row."""
    image = flat_network.layers[0]
    assert isinstance(image.operation, Input)
    if image.operation.shape == shape:
        return flat_network
    return replace(
        flat_network, layers=(replace(image, operation=replace(image.operation, shape=shape)), *flat_network.layers[1:])
    )
