"""AND and IAND of spikes as a traced model writes them: products a * b, and b * (1 - a)."""

from __future__ import annotations

import operator

import torch
from torch import fx

from randhet.export.graph import ExportError, FloatAnd, FloatIand

PRODUCTS = (operator.mul, torch.mul, "mul")
DIFFERENCES = (operator.sub, torch.sub)


def is_complement(node: fx.Node) -> bool:
    """Tell whether a node is 1 - a."""
    if node.target not in DIFFERENCES or node.kwargs or len(node.args) != 2:
        return False
    one, subtracted = node.args
    return isinstance(one, (int, float)) and one == 1 and isinstance(subtracted, fx.Node)


def gate(node: fx.Node) -> FloatAnd | FloatIand:
    """The gate that a product is; ExportError, behind its name, where it is none of two layers."""
    if node.kwargs or len(node.args) != 2 or len(node.all_input_nodes) != 2:
        raise ExportError(", which is no plain product of two layers")
    complements = sum(map(is_complement, node.all_input_nodes))
    if complements == 2:
        raise ExportError(", whose factors are both 1 - a")
    return FloatIand() if complements else FloatAnd()


def check_complement(node: fx.Node) -> None:
    """ExportError, behind its name, where 1 - a is read by anything but a product: it has no counterpart of its own."""
    if not all(user.target in PRODUCTS for user in node.users):
        raise ExportError(", which is read by something else than a product b * (1 - a)")


def reads(node: fx.Node) -> list[fx.Node]:
    """The nodes that a node reads; of b * (1 - a) the complement first, as `Iand` has it."""
    nodes = list(node.all_input_nodes)
    return sorted(nodes, key=lambda read: not is_complement(read)) if node.target in PRODUCTS else nodes
