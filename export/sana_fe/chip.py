"""The chip of SANA-FE's loihi.yaml, its figures per event, and where the neurons of a network sit on it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from randhet.fixed_point.chips.mapping import LayerMap, Mapping
from randhet.fixed_point.network import Dense

SOURCE = "SANA-FE 2.2, sanafe/examples/loihi.yaml, after Davies et al., IEEE Micro 38(1), 2018"
ENERGY = {
    "axon_in": 0.0,
    "axon_out": 111.0e-12,
    "soma_access": 51.2e-12,
    "soma_update": 21.6e-12,
    "spike": 69.3e-12,
    "dense": 35.5e-12,
    "conv": 24.0e-12,
    "hop_x": 3.0e-12,
    "hop_y": 4.2e-12,
    "free": 0.0,
}
"""J per event: a message received and sent, a neuron accessed and updated, a spike, a synapse, a hop between tiles."""
LATENCY = {
    "axon_in": 16.0e-9,
    "axon_out": 5.1e-9,
    "soma_access": 6.0e-9,
    "soma_update": 3.7e-9,
    "spike": 30.0e-9,
    "dense": 3.8e-9,
    "conv": 3.1e-9,
    "hop_x": 4.1e-9,
    "hop_y": 6.5e-9,
    "free": 0.0,
}
"""s per event."""
CORES_PER_TILE, HEIGHT, WIDTH = 4, 4, 8
INPUTS_PER_CORE = 1024


@dataclass(frozen=True, eq=False)
class Placement:
    """Cores of the neurons of every layer, by its index, numbered through the chip; cores in use; tiles (x, y)."""

    core: dict[int, NDArray[np.int64]]
    cores: int
    neurons_per_core: int

    @property
    def width(self) -> int:
        """Columns of tiles: Loihi's, or as many as it takes."""
        return max(WIDTH, ceil(self.cores / (CORES_PER_TILE * HEIGHT)))

    def tile(self, core: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (x, y) of the tiles of cores; tiles are numbered along y first."""
        return np.divmod(core // CORES_PER_TILE, HEIGHT)


def place(mapping: Mapping, inputs: int = 0) -> Placement:
    """Number the cores of a mapping through; inputs: neurons of an input that stands on cores of its own, first."""
    core: dict[int, NDArray[np.int64]] = {}
    first = ceil(inputs / INPUTS_PER_CORE)
    if inputs:
        core[0] = np.arange(inputs) // INPUTS_PER_CORE
    for layer in mapping.layers:
        core[layer.population.index] = first + _within(layer)
        first += len(layer.cores)
    return Placement(core, first, max(mapping.chip.need("neurons_per_core"), INPUTS_PER_CORE))


def _within(layer: LayerMap) -> NDArray[np.int64]:
    """Return the core of every neuron of a layer, counted within the layer."""
    sizes = [core.neurons for core in layer.cores]
    if layer.population.layer.drawn:
        return np.repeat(np.arange(len(sizes)), sizes)
    grid = np.full((*layer.population.shape, 1, 1)[:3], -1, np.int64)
    for number, core in enumerate(layer.cores):
        grid[np.ix_(core.channels, core.rows, core.columns)] = number
    assert grid.min() >= 0 and grid.size == prod(layer.population.shape)
    return grid.ravel()


def synapse_of(layer: LayerMap) -> str:
    """Name the kind of synapse whose figure is taken."""
    return "dense" if isinstance(layer.population.layer.operation, Dense) else "conv"


def architecture(placement: Placement, name: str = "loihi") -> str:
    """Write the chip as SANA-FE's YAML, with as many columns of tiles as the network needs."""
    return f"""# Figures: {SOURCE}
architecture:
  name: {name}
  attributes:
    topology: mesh
    width: {placement.width}
    height: {HEIGHT}
    link_buffer_size: 16
    sync_model: table
    latency_sync: {{1: 0.6e-6, 2: 1.0e-6, 4: 1.4e-6, 29: 1.8e-6}}
  tile:
    - name: loihi_tile[0..{placement.width * HEIGHT - 1}]
      attributes:
{_figures(8, north_hop="hop_y", east_hop="hop_x", south_hop="hop_y", west_hop="hop_x")}
      core:
        - name: loihi_core[0..{CORES_PER_TILE - 1}]
          attributes:
            buffer_position: soma
            buffer_inside_unit: false
            max_neurons_supported: {placement.neurons_per_core}
          axon_in:
            - name: loihi_in
              attributes:
{_figures(16, message_in="axon_in")}
          soma:
            - name: loihi_lif
              attributes:
                model: leaky_integrate_fire
{_figures(16, access_neuron="soma_access", update_neuron="soma_update", spike_out="spike")}
            - name: loihi_inputs[0..{INPUTS_PER_CORE - 1}]
              attributes:
                model: input
{_figures(16, access_neuron="free", update_neuron="free", spike_out="free")}
          dendrite:
            - name: loihi_dendrites
              attributes:
                model: accumulator
{_figures(16, update="free")}
          synapse:
            - name: loihi_dense_synapse
              attributes:
                model: current_based
{_figures(16, process_spike="dense")}
            - name: loihi_conv_synapse
              attributes:
                model: current_based
{_figures(16, process_spike="conv")}
          axon_out:
            - name: loihi_out
              attributes:
{_figures(16, message_out="axon_out")}
"""


def _figures(indent: int, **events: str) -> str:
    """Write energy and latency of events, each named after the figures it takes; a point makes them numbers in YAML."""
    return "\n".join(
        f"{' ' * indent}{what}_{event}: {table[key] * power:.1f}e-{digits}"
        for event, key in events.items()
        for what, table, power, digits in (("energy", ENERGY, 1e12, 12), ("latency", LATENCY, 1e9, "09"))
    )
