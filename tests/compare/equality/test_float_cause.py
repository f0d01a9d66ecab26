"""The first odd spike between float and integers: planted faults of each cause are named, honest rounding is too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from odd_spikes import first_spike

from randhet.compare.equality import float_cause
from randhet.compare.equality.layers import spiking
from randhet.compare.equality.recorded_bias import Claim, claim
from randhet.compare.equality.replay import replay
from randhet.compare.equality.tracing import SpikeDifference
from randhet.export.graph import ExportError
from randhet.export.passes import fold
from randhet.export.passes.correct import NOTE, correction
from randhet.export.passes.quantise import QuantSettings
from randhet.export.pipeline import export_checkpoint
from randhet.export.trace import trace as graph_of
from randhet.fixed_point import integer, reference
from randhet.fixed_point.network import Constant, Conv, Dense, Layer, Network, Range, Reset
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 3, (6, 6), (3, 4), (1, 1), steps=4)
PIXELS = np.random.default_rng(1).integers(0, 256, (12, 1, 6, 6), np.uint8)
SEED = 5


KINDS = [("randhet", "zero"), ("vanilla", "zero"), ("het", "zero"), ("randhet", "subtract"), ("vanilla", "subtract")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    neuron, reset = request.param
    return random_init(replace(MODEL, neuron=neuron, reset=reset), seed=2)


def first_odd(checkpoint: Checkpoint, network: Network, float_seed: int = SEED) -> SpikeDifference:
    model = build(checkpoint)
    names = [layer.name for layer in network.layers]
    fixed = reference.run(network, PIXELS, seed=SEED, probes=names).traces
    _, floats = replay(model, network, PIXELS, float_seed)
    found = first_spike(network, fold(graph_of(model, network.image_shape)), floats, fixed, SEED)
    assert found is not None
    return found


def one_seed(checkpoint: Checkpoint, network: Network, seed: int) -> SpikeDifference | None:
    """The first odd spike on a few images under a seed."""
    model, names = build(checkpoint), [layer.name for layer in network.layers]
    fixed = reference.run(network, PIXELS[:4], seed=seed, probes=names).traces
    _, floats = replay(model, network, PIXELS[:4], seed)
    return first_spike(network, fold(graph_of(model, network.image_shape)), floats, fixed, seed)


def changed(network: Network, name: str, change: Callable[[Layer], Layer]) -> Network:
    return replace(network, layers=tuple(change(one) if one.name == name else one for one in network.layers))


def exported(checkpoint: Checkpoint) -> Network:
    return export_checkpoint(checkpoint, PIXELS).network


def test_honest_networks_differ_by_rounding_only(checkpoint: Checkpoint) -> None:
    found = first_odd(checkpoint, exported(checkpoint))
    assert found.at.cause in ("rounding", "tie")
    assert abs(found.float_membrane - found.fixed_membrane) < 0.05


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_every_first_spike_of_many_draws_is_rounding_or_a_tie(reset: Reset) -> None:
    checkpoint = random_init(replace(MODEL, reset=reset), seed=2)
    network = exported(checkpoint)
    causes = [odd.at.cause for seed in range(20) if (odd := one_seed(checkpoint, network, seed))]
    assert set(causes) <= {"rounding", "tie"}
    assert len(causes) >= 10


def wrong_weight(layer: Layer) -> Layer:
    assert isinstance(layer.operation, Conv)
    weight = layer.operation.weight.copy()
    weight[:, 0, 1, 1] = -weight[:, 0, 1, 1]
    return replace(layer, operation=replace(layer.operation, weight=weight))


@pytest.mark.parametrize("name", ["node1", "layer1.0.node1"])
def test_a_wrong_weight(checkpoint: Checkpoint, name: str) -> None:
    found = first_odd(checkpoint, changed(exported(checkpoint), name, wrong_weight))
    if found.at.layer == name:
        assert found.at.cause == "weight"
        assert found.at.detail.startswith(f"weight 4 of channel {found.at.neuron[0]} is")
    else:  # honest rounding came first
        assert found.at.cause in ("rounding", "tie")


@pytest.mark.parametrize("field", ["bias", "threshold"])
def test_a_wrong_bias_or_threshold(checkpoint: Checkpoint, field: str) -> None:
    def wrong(layer: Layer) -> Layer:
        own = layer.spiking
        assert own is not None
        value = getattr(own, field) + own.threshold.min() // 3
        return replace(layer, neuron=replace(own, **{field: value}))

    found = first_odd(checkpoint, changed(exported(checkpoint), "node1", wrong))
    assert (found.at.layer, found.at.cause) == ("node1", field)


@pytest.mark.parametrize(("own", "other"), [("zero", "subtract"), ("subtract", "zero")])
def test_another_reset(own: Reset, other: Reset) -> None:
    checkpoint = random_init(replace(MODEL, reset=own), seed=2)
    network = exported(checkpoint)
    layers = (replace(one, neuron=replace(one.lif, reset=other)) if one.lif else one for one in network.layers)
    found = first_odd(checkpoint, replace(network, layers=tuple(layers)))
    words = {"zero": "to zero", "subtract": "by subtraction"}
    assert found.at.cause == "reset"
    assert found.at.detail == f"the integers are reset {words[other]}, the float model {words[own]}"


def test_other_taus() -> None:
    checkpoint = random_init(MODEL, seed=2)
    found = first_odd(checkpoint, exported(checkpoint), float_seed=SEED + 1)
    assert (found.at.layer, found.at.cause) == ("node1", "tau")


def test_another_constant_decay() -> None:
    checkpoint = random_init(replace(MODEL, neuron="vanilla"), seed=2)

    def wrong(layer: Layer) -> Layer:
        assert layer.lif is not None
        return replace(layer, neuron=replace(layer.lif, decay=Constant(90)))

    found = first_odd(checkpoint, changed(exported(checkpoint), "node1", wrong))
    assert (found.at.cause, found.at.detail) == ("tau", "the decay is 90/256, the float model's tau is 0.5000")


def test_a_tie() -> None:
    """Both thresholds set to where one neuron's integers stand at step 0, a little below its float membrane."""
    checkpoint = random_init(MODEL, seed=2)
    network, image, tied = exported(checkpoint), PIXELS[:1], 0
    stem = next(layer for layer in spiking(network) if layer.name == "node1")
    units = reference.run(network, image, seed=SEED, probes=["node1"]).traces["node1"].membrane
    assert units is not None
    assert stem.scale is not None
    standing = units[0, 0] * stem.scale.reshape(-1, 1, 1) / 64
    above = replay(build(checkpoint), network, image, SEED)[1]["node1"].membrane[0, 0] - standing
    for place in zip(*np.nonzero((above > 0) & (standing > 0.1))):
        found = first_with_threshold(checkpoint, network, float(standing[place]))
        if found is not None and (found.at.layer, found.at.neuron) == ("node1", tuple(map(int, place))):
            assert (found.at.cause, found.fixed_membrane) == ("tie", pytest.approx(float(standing[place])))
            tied += 1
    assert tied > 2


def first_with_threshold(checkpoint: Checkpoint, network: Network, threshold: float) -> SpikeDifference | None:
    """The first odd spike of image 0 where every neuron of model and network has this threshold, as far as it can."""
    for name, scale in ((one.name, one.scale) for one in spiking(network)):
        assert scale is not None
        whole = np.maximum(np.rint(threshold / scale * 64), 1).astype(np.int32)
        network = changed(network, name, lambda one, it=whole: replace(one, neuron=replace(one.neuron, threshold=it)))
    model = build(replace(checkpoint, settings=replace(MODEL, threshold=threshold)))
    fixed = reference.run(network, PIXELS[:1], seed=SEED, probes=[layer.name for layer in network.layers]).traces
    _, floats = replay(model, network, PIXELS[:1], SEED)
    return first_spike(network, fold(graph_of(model, network.image_shape)), floats, fixed, SEED)


def test_saturation(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose states end not far above the thresholds, currents are cut off and later spikes differ."""
    checkpoint = random_init(MODEL, seed=2)
    network = export_checkpoint(checkpoint, PIXELS, QuantSettings(scales="layer")).network
    thresholds = [int(layer.neuron.threshold.max()) for layer in spiking(network)]  # type: ignore[union-attr]
    for module in (integer, float_cause):
        monkeypatch.setattr(module, "STATE_MAX", 2 * sorted(thresholds)[1])
    found = [odd for seed in range(12) if (odd := one_seed(checkpoint, network, seed))]
    assert "saturation" in {odd.at.cause for odd in found}


REFINED = QuantSettings(weight_bits=4, passes=("clip", "correct_bias"))


def refined(checkpoint: Checkpoint) -> Network:
    return export_checkpoint(checkpoint, PIXELS, REFINED).network


def test_clipped_weights_and_corrected_biases_are_no_fault(checkpoint: Checkpoint) -> None:
    network = refined(checkpoint)
    shifts = json.loads(network.metadata[NOTE])
    assert any(abs(shift) > 1 for shift in shifts["node1"])  # else nothing would be seen here
    assert first_odd(checkpoint, network).at.cause in ("rounding", "tie")


def test_a_wrong_bias_is_found_beside_its_correction(checkpoint: Checkpoint) -> None:
    def wrong(layer: Layer) -> Layer:
        own = layer.spiking
        assert own is not None
        return replace(layer, neuron=replace(own, bias=own.bias + own.threshold.min() // 3))

    found = first_odd(checkpoint, changed(refined(checkpoint), "node1", wrong))
    assert (found.at.layer, found.at.cause) == ("node1", "bias")


def test_a_correction_that_the_file_does_not_tell_is_a_wrong_bias() -> None:
    checkpoint = random_init(MODEL, seed=2)
    network = refined(checkpoint)
    silent = {key: value for key, value in network.metadata.items() if key != NOTE}
    assert first_odd(checkpoint, replace(network, metadata=silent)).at.cause == "bias"


def told_more(network: Network, name: str, more: int) -> Network:
    """A file that tells of a larger correction in every channel of a layer than was made."""
    shifts = json.loads(network.metadata[NOTE])
    shifts[name] = [shift + more for shift in shifts[name]]
    return replace(network, metadata=dict(network.metadata) | {NOTE: json.dumps(shifts)})


@pytest.mark.parametrize("images", [len(PIXELS), 2], ids=["spread over images", "largest inputs only"])
def test_a_forged_correction_does_not_excuse_a_wrong_bias(
    checkpoint: Checkpoint, images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bias and file agree with each other, and both are wrong by more than rounding these weights explains."""
    monkeypatch.setitem(globals(), "PIXELS", PIXELS[:images])
    network, wrong = refined(checkpoint), 0
    for layer in network.layers:
        if layer.name == "node1":
            assert layer.spiking is not None
            wrong = 2 * int(layer.spiking.threshold.max())

    def moved(layer: Layer) -> Layer:
        assert layer.neuron is not None
        return replace(layer, neuron=replace(layer.neuron, bias=layer.neuron.bias + wrong))

    found = first_odd(checkpoint, told_more(changed(network, "node1", moved), "node1", wrong))
    assert (found.at.layer, found.at.cause) == ("node1", "bias")
    shift = json.loads(network.metadata[NOTE])["node1"][found.at.neuron[0]] + wrong
    assert f"corrected by {shift} as the file tells, rounding explains" in found.at.detail


def test_what_rounding_explains_by_hand() -> None:
    """A dense layer of two taps that lost 1.5 and -2 units per unit read; inputs are at most 100."""
    lost, operation = np.array([1.5, -2.0]), Dense(np.zeros((1, 2), np.int8))
    ones, twos = np.array([[[1, 0]]]), np.array([[[2, 0]]])
    few = claim(1, lost, operation, 0, np.concatenate([ones, twos]), span=Range(0, 100))
    assert (few.low, few.high) == (-200.0, 150.0)
    many = claim(1, lost, operation, 0, np.concatenate([ones, twos] * 5), span=Range(0, 100))
    deviation = 0.75 * np.sqrt(10 / 9)  # of 1.5 and 3, five times each, n - 1
    assert (many.low, many.high) == (pytest.approx(2.25 - 4 * deviation), pytest.approx(2.25 + 4 * deviation))
    assert [Claim(shift, 1.5, 1.5).credible for shift in (0, 1, 2, 3, -1)] == [True, True, True, False, False]


def test_a_weight_at_the_limit_that_should_be_smaller_is_found(checkpoint: Checkpoint) -> None:
    """The float weight is of the same sign and smaller in size, or beyond by less than clipping needs."""
    network = exported(checkpoint)

    def wrong(layer: Layer) -> Layer:
        assert isinstance(layer.operation, Conv)
        weight = (layer.operation.weight.astype(int) // 2).astype(np.int8)  # a channel's largest weight halved too
        return replace(layer, operation=replace(layer.operation, weight=weight))

    found = first_odd(checkpoint, changed(network, "node1", wrong))
    assert (found.at.layer, found.at.cause) == ("node1", "weight")


@pytest.mark.parametrize("entry", ["no JSON", "[1]", '{"node1": [1]}', '{"node1": [0.5, 0, 0]}', '{"node1": "x"}'])
def test_a_correction_that_makes_no_sense_is_an_error(entry: str) -> None:
    network = refined(random_init(MODEL, seed=2))
    layer = next(one for one in network.layers if one.name == "node1")
    with pytest.raises(ExportError, match=NOTE):
        correction(replace(network, metadata={NOTE: entry}), layer)
