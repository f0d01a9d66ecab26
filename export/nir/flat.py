"""A NIR graph in one level: nested graphs are opened, layers that read their own spikes are found."""

from __future__ import annotations

from dataclasses import dataclass, field

import nir

from randhet.export.graph import ExportError

MAX_DEPTH = 16
"""Graphs within graphs; a file may be anyone's."""
Edge = tuple[str, str]


@dataclass(eq=False)
class Flat:
    """Nodes by name, edges, and by neuron the node whose weights read its spikes and send to it alone."""

    nodes: dict[str, nir.NIRNode]
    edges: list[Edge]
    recurrent: dict[str, str] = field(default_factory=dict)

    def before(self, name: str) -> list[str]:
        """The nodes that a node reads."""
        return [source for source, target in self.edges if target == name]

    def behind(self, name: str) -> list[str]:
        """The nodes that read a node."""
        return [target for source, target in self.edges if source == name]


def flattened(graph: nir.NIRGraph) -> Flat:
    """The graph in one level, without recurrent edges; a node of a nested graph is called GRAPH.NODE."""
    flat = _opened(graph, 0)
    for name in flat.nodes:
        if _weights_back(flat, name):
            (neuron,) = flat.before(name)
            if neuron in flat.recurrent:
                raise ExportError(f"{neuron} has two recurrent layers, {flat.recurrent[neuron]} and {name}")
            flat.recurrent[neuron] = name
    back = set(flat.recurrent.values())
    flat.edges = [edge for edge in flat.edges if not back & set(edge)]
    return flat


def _weights_back(flat: Flat, name: str) -> bool:
    """Whether a node is a matrix of weights from one neuron's spikes to itself."""
    sources, targets = flat.before(name), flat.behind(name)
    if not isinstance(flat.nodes[name], (nir.Affine, nir.Linear)) or len(sources) != 1 or sources != targets:
        return False
    return isinstance(flat.nodes[sources[0]], (nir.LIF, nir.IF, nir.CubaLIF))


def _opened(graph: nir.NIRGraph, depth: int) -> Flat:
    if depth > MAX_DEPTH:
        raise ExportError(f"graphs are nested more than {MAX_DEPTH} deep")
    flat = Flat(dict(graph.nodes), [(str(source), str(target)) for source, target in graph.edges])
    for edge in flat.edges:
        if not flat.nodes.keys() >= set(edge):
            raise ExportError(f"edge {edge[0]} to {edge[1]} leads to a node that is not in the graph")
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            flat = _inlined(flat, name, _opened(node, depth + 1))
    return flat


def _inlined(flat: Flat, name: str, inner: Flat) -> Flat:
    """The graph with the nodes of a nested one in its place; what it reads goes to the readers of its Input."""
    ends = {}
    for kind in (nir.Input, nir.Output):
        found = [own for own, node in inner.nodes.items() if isinstance(node, kind)]
        if len(found) != 1:
            raise ExportError(f"the graph {name} has {len(found)} nodes of type {kind.__name__}, it needs exactly one")
        ends[kind] = found[0]
    inside = {own: f"{name}.{own}" for own in inner.nodes if own not in ends.values()}
    first, last = inner.behind(ends[nir.Input]), inner.before(ends[nir.Output])
    if not first or not last or {*first, *last} - inside.keys():
        raise ExportError(f"the graph {name} has an Input or an Output that no node of its own reads or gives")
    nodes = {own: node for own, node in flat.nodes.items() if own != name}
    if clash := nodes.keys() & set(inside.values()):
        raise ExportError(f"two nodes are called {min(clash)}")
    edges = [(inside[a], inside[b]) for a, b in inner.edges if a in inside and b in inside]
    for source, target in flat.edges:
        starts = [inside[own] for own in last] if source == name else [source]
        stops = [inside[own] for own in first] if target == name else [target]
        edges += [(start, stop) for start in starts for stop in stops]
    return Flat(nodes | {new: inner.nodes[own] for own, new in inside.items()}, edges)
