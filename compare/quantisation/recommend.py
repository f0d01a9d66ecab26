"""How few bits each layer needs: what rounding does to the class scores against what another draw does to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from randhet.compare.quantisation.budget import PARTS, Cost, Meter, Part, Simulator
from randhet.export.graph import ExportError, FloatGraph
from randhet.export.passes import refine
from randhet.export.passes.activity import Activity, weighted
from randhet.export.passes.quantise import Plan, QuantSettings, quantise
from randhet.fixed_point.network import Network

Told = Callable[[int], None]
BITS = (2, 3, 4, 5, 6, 7, 8)
ALLOWED = 0.5
"""All layers together may change the class scores by this share of what another draw of the taus changes them by."""


@dataclass(frozen=True)
class LayerBits:
    """Weight bits a layer gets; scores: change of the class scores with only its weights at 2, 3, ... 8 bits."""

    layer: str
    weights: int
    bits: int
    scores: tuple[float, ...]

    @property
    def bytes(self) -> float:
        """Of its weights at these bits, packed."""
        return self.weights * self.bits / 8


@dataclass(frozen=True)
class Recommendation:
    """Bits per layer, random bits per draw, fractional membrane bits; cost of all of it together against float."""

    layers: tuple[LayerBits, ...]
    tau_bits: int
    f: int
    cost: Cost
    scales: str = "channel"
    passes: tuple[str, ...] = ()

    @property
    def bytes_before(self) -> int:
        """Of 8 bit weights."""
        return sum(layer.weights for layer in self.layers)

    @property
    def bytes_after(self) -> float:
        """Of weights as recommended."""
        return sum(layer.bytes for layer in self.layers)

    @property
    def saved(self) -> float:
        """Share of the weight memory saved, 0..1."""
        return 1 - self.bytes_after / self.bytes_before

    @property
    def layer_bits(self) -> tuple[tuple[str, int], ...]:
        """As `QuantSettings` takes it."""
        return tuple((layer.layer, layer.bits) for layer in self.layers)

    @property
    def options(self) -> str:
        """As `randhet export` takes it."""
        bits = ",".join(f"{layer.layer}={layer.bits}" for layer in self.layers)
        passes = ",".join(name.replace("_", "-") for name in self.passes) or "none"
        formats = f"--tau-bits {self.tau_bits} --fraction {self.f} --scales {self.scales} --passes {passes}"
        return f"{formats} --layer-bits {bits}"


@dataclass(frozen=True, eq=False)
class Search:
    """What a recommendation is sought for: the folded model, its network, its meter, and the settings to start from.

    activity: what layers read on calibration data, for the passes that the settings ask for. judge: measures what all
    of it costs in accuracy, None for the meter itself, which may do with fewer images.
    """

    graph: FloatGraph
    network: Network
    meter: Meter
    settings: QuantSettings
    activity: Activity
    judge: Meter | None = None

    def simulator(self, settings: QuantSettings) -> Simulator:
        """The network at other settings; f no higher than the network has it."""
        cells = {layer.name: layer.spiking for layer in self.network.layers if layer.spiking}
        lowered = {name: min(neuron.f, settings.f) for name, neuron in cells.items()}
        plan = refine(self.graph, Plan(settings, lowered), self.activity)
        return Simulator(quantise(self.graph, plan, self.network.steps), self.graph)

    def scores(self, settings: QuantSettings, parts: Sequence[Part]) -> float:
        """Change of the class scores with these parts at these settings; infinite where they cannot be had."""
        try:
            simulator = self.simulator(settings)
        except ExportError:  # a threshold rounds to 0 with so few bits
            return float("inf")
        return self.meter.cost(parts, None, simulator).scores


def recommend(search: Search, margin: float = 0.005, done: Told = lambda count: None) -> Recommendation:
    """Each layer, the draws and the membrane get the fewest bits within an equal share of ALLOWED, else all they had.

    Then all are tried together: while more accuracy than the margin is lost, the layer that changes the scores most
    gets one more bit. done is told after each variant, `steps_of(network)` times.
    """
    named = weighted(search.network)
    share = ALLOWED / (len(named) + 2)
    simulators = [search.simulator(replace(search.settings, weight_bits=bits, layer_bits=())) for bits in BITS]
    layers = []
    for layer in named:
        scores = []
        for simulator in simulators:
            scores.append(search.meter.cost(("weights",), (layer.name,), simulator).scores)
            done(1)
        bits = next((bits for bits, change in zip(BITS, scores) if change <= share), BITS[-1])
        size = search.meter.simulator.constants[layer.name].weight[1].numel()
        layers.append(LayerBits(layer.name, size, bits, tuple(scores)))
    settings = search.settings
    changes = lambda parts, **fields: search.scores(replace(settings, **fields), parts) <= share
    draws, membrane = ("tau table", "random bits"), ("bias", "threshold", "membrane fraction")
    tau_bits = next((n for n in range(1, settings.tau_bits) if changes(draws, tau_bits=n)), settings.tau_bits)
    done(1)
    f = next((n for n in range(settings.f) if changes(membrane, f=n)), settings.f)
    done(1)
    return _settle(search, replace(settings, tau_bits=tau_bits, f=f), tuple(layers), margin)


def steps_of(network: Network) -> int:
    """What `recommend` tells `done` in all."""
    return len(BITS) * len(weighted(network)) + 2


def _settle(search: Search, settings: QuantSettings, layers: tuple[LayerBits, ...], margin: float) -> Recommendation:
    while True:
        bits = tuple((layer.layer, layer.bits) for layer in layers)
        cost = (search.judge or search.meter).cost(PARTS, None, search.simulator(replace(settings, layer_bits=bits)))
        short = [layer for layer in layers if layer.bits < BITS[-1]]
        if cost.lost.value <= margin or not short:
            return Recommendation(layers, settings.tau_bits, settings.f, cost, settings.scales, settings.passes)
        most = max(short, key=lambda layer: layer.scores[layer.bits - BITS[0]])
        layers = tuple(replace(layer, bits=layer.bits + 1) if layer is most else layer for layer in layers)
