"""What a backend does not run yet: refused by name before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from randhet.base.errors import NetworkError
from randhet.fixed_point.layers import And, Concat, Iand, Layer, Leaky, MaxPool, Spread
from randhet.fixed_point.network import Network


def refuse(component: object) -> NoReturn:
    """Raise NetworkError: a kind that the backend does not run."""
    raise NetworkError(f"{type(component).__name__} is not run by this backend, the backend reference runs it")


def require_plain(network: Network, backend: str) -> None:
    """Raise NetworkError that lists the layers which a backend does not run."""
    beyond = [f"layer {layer.name}: {what}" for layer in network.layers for what in _beyond(layer)]
    if network.input.sequence:
        beyond.insert(0, "an input sequence")
    if beyond:
        raise NetworkError(f"backend {backend} does not run {'; '.join(beyond)}; the backend reference does")


def _beyond(layer: Layer) -> Iterator[str]:
    if isinstance(layer.operation, And | Iand | Concat | MaxPool | Spread):
        yield type(layer.operation).__name__
    if layer.weighted is not None and layer.neuron is None:
        yield "weights without a neuron"
    if layer.recurrent is not None:
        yield "recurrent weights"
    if isinstance(layer.neuron, Leaky):
        yield "a leaky read-out"
    if layer.lif and layer.lif.reset_delay:
        yield "a delayed reset"
    if layer.lif and layer.lif.floored:
        yield "a floor"
