"""Neurons of version 1 files: a kind of neuron for every kind of decay, and no word for what a spike does (to zero)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from randhet.fixed_point.layers import Array, Constant, Cuba, Decay, Drawn, Lif, Neuron, PerNeuron, ReadOut, Sampling
from randhet.netx.node import Node, bias, group


def neuron(layer: Node) -> Neuron:
    """The neuron of a layer of a version 1 file."""
    node = group(layer, "neuron")
    kind = node.text("type")
    if kind not in NEURONS:
        raise node.fail("type", f"is {kind!r}, known are {', '.join(NEURONS)}")
    exponent = node.integer("bias_exp") if node.has("bias_exp") else 0
    return NEURONS[kind](node, bias(layer, exponent))


def _lif(decay: Callable[[Node], Decay]) -> Callable[[Node, Array], Lif]:
    return lambda node, bias: Lif(
        node.array("threshold"), bias, decay(node), k=node.integer("k"), f=node.integer("f"), reset="zero"
    )


def _drawn(node: Node) -> Drawn:
    sampling = cast(Sampling, node.text("sampling"))
    return Drawn(node.array("table"), sampling, node.number("sigma"), node.integer("neurons_per_core"))


def _cuba(node: Node, bias: Array) -> Cuba:
    decays = node.integer("iDecay") - 1, node.integer("vDecay")
    return Cuba(node.array("threshold"), bias, *decays, node.integer("f"))


NEURONS: dict[str, Callable[[Node, Array], Neuron]] = {
    "RHLIF": _lif(_drawn),
    "LIF": _lif(lambda node: Constant(node.integer("decay"))),
    "HETLIF": _lif(lambda node: PerNeuron(node.array("decay", axes=(1, 3)))),
    "CUBA": _cuba,
    "ACCUMULATE": lambda node, bias: ReadOut(bias),
}
