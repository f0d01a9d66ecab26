"""What a run costs by SANA-FE's accounting, with the synapses and places that its files have.

Per spike: a message to every core with a neuron that reads it, over the tiles between (x and y), and a synapse for each
such neuron. Per step and neuron: an access and an update. Inputs cost nothing but their messages and synapses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from randhet.export.sana_fe.chip import ENERGY, Placement, synapse_of
from randhet.export.sana_fe.files import Deployed
from randhet.export.sana_fe.wiring import Projection

Spikes = Mapping[int, NDArray[np.float64]]
"""By layer index: spikes per image of every neuron, in the layer's shape."""


@dataclass(frozen=True)
class Cost:
    """Events per image, by kind, and J of each kind."""

    counts: dict[str, float]

    @property
    def joules(self) -> dict[str, float]:
        """J per image of each kind of event."""
        return {kind: count * ENERGY[kind] for kind, count in self.counts.items()}

    @property
    def energy(self) -> float:
        """J per image."""
        return sum(self.joules.values())


def cost(found: Deployed, spikes: Spikes) -> Cost:
    """Count the events of a run."""
    counts = {kind: 0.0 for kind in ENERGY if kind != "free"}
    steps = found.network.steps
    for i, soma in found.neurons.items():
        counts["soma_access"] += len(soma.bias) * steps
        counts["soma_update"] += len(soma.bias) * steps
        counts["spike"] += float(spikes[i].sum()) if soma.spikes else 0.0
    kind = {layer.population.index: synapse_of(layer) for layer in found.mapping.layers}
    for one in found.wired:
        counts[kind[one.reader]] += float(spikes[one.sender].ravel()[one.sources].sum())
    for sender in {one.sender for one in found.wired}:
        _messages(found.placement, sender, [one for one in found.wired if one.sender == sender], spikes, counts)
    return Cost(counts)


def _messages(
    placement: Placement, sender: int, ways: list[Projection], spikes: Spikes, counts: dict[str, float]
) -> None:
    """Add the messages of a layer's spikes, one per neuron and core that it reaches, and their hops."""
    pairs = [one.sources * placement.cores + placement.core[one.reader][one.targets] for one in ways]
    neuron, core = np.divmod(np.unique(np.concatenate(pairs)), placement.cores)
    sent = spikes[sender].ravel()[neuron]
    (x, y), (far_x, far_y) = placement.tile(placement.core[sender][neuron]), placement.tile(core)
    counts["axon_out"] += float(sent.sum())
    counts["axon_in"] += float(sent.sum())
    counts["hop_x"] += float((sent * abs(far_x - x)).sum())
    counts["hop_y"] += float((sent * abs(far_y - y)).sum())
