"""The whole comparison on a small network: what it must find, what it must refuse, what it leaves behind."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wrong_backend

from randhet.base.errors import RandhetError
from randhet.compare.equality.tracing import chunk_size, groups
from randhet.compare.report import page as report
from randhet.compare.report import words
from randhet.compare.study import Comparison, StudySettings, compare
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import backends, reference
from randhet.fixed_point.backends import BACKENDS, Backend, BackendError, available
from randhet.fixed_point.network import Network
from randhet.lava_runtime.available import missing
from randhet.train.checkpoint import Checkpoint, random_init
from randhet.train.data.sources import Images
from randhet.train.models import ModelSettings, NeuronKind

MODEL = ModelSettings(1, 3, (6, 5), (3, 4), (1, 1), steps=3)
RNG = np.random.default_rng(1)
IMAGES = Images("noise", RNG.integers(0, 256, (6, 1, 6, 5), np.uint8), RNG.integers(0, 3, 6), ("a", "b", "c"))
KEYS = {
    "float_accuracy",
    "float_accuracy_std",
    "fixed_accuracy",
    "fixed_accuracy_std",
    "difference",
    "equivalent",
    "margin",
    "backends",
    "same_tau_agreement",
    "layers",
}


def silent(name: str, total: int) -> Callable[[int], None]:
    return lambda count: None


@pytest.fixture(scope="module")
def pair() -> tuple[Checkpoint, Network]:
    checkpoint = random_init(MODEL, seed=2)
    return checkpoint, export_checkpoint(checkpoint, IMAGES.pixels).network


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is the reference with one weight changed by one."""
    monkeypatch.setitem(BACKENDS, "wrong", Backend("wrong_backend", "run", "one weight off"))


def study(pair: tuple[Checkpoint, Network], *names: str) -> Comparison:
    return compare(*pair, IMAGES, StudySettings(draws=3, seed=4, backends=names), silent)


def test_numbers_are_those_of_the_runs(pair: tuple[Checkpoint, Network]) -> None:
    found = study(pair)
    fixed = [np.mean(reference.run(pair[1], IMAGES.pixels, seed=s).predictions == IMAGES.labels) for s in (4, 5, 6)]
    assert found.fixed.accuracies == tuple(fixed)
    assert len(found.floats.accuracies) == 3
    assert found.difference.value == pytest.approx(np.mean(found.floats.accuracies) - np.mean(fixed))
    assert [layer.layer for layer in found.layers] == [
        layer.name for layer in pair[1].layers if layer.neuron and layer.name != "fc1"
    ]


def test_a_table_that_is_not_the_model_s_fails_the_comparison(pair: tuple[Checkpoint, Network]) -> None:
    """The decays of the stem for draws in another order: float follows them in replay, and still it is said."""
    stem = pair[1].layers[1]
    assert stem.lif is not None
    assert stem.drawn is not None
    decay = replace(stem.drawn, table=stem.drawn.table[::-1].copy())
    turned = replace(stem, neuron=replace(stem.lif, decay=decay))
    network = replace(pair[1], layers=(pair[1].layers[0], turned, *pair[1].layers[2:]))
    said = [failure for failure in study((pair[0], network)).failures if "table" in failure]
    assert len(said) == 1 and said[0].startswith(f"the table of layer {stem.name} is not the model's: draw 0 gives ")
    assert not any("table" in failure for failure in study(pair).failures)


@pytest.mark.parametrize(
    ("floor", "same", "failed"),
    [(0.5, 4, False), (0.5, 3, False), (0.5, 2, True), (0.99, 5, True), (0.99, 6, False), (None, 5, True)],
)
def test_predictions_must_agree_as_often_as_two_float_runs(
    pair: tuple[Checkpoint, Network], floor: float | None, same: int, failed: bool
) -> None:
    """Of 6 images; 97 % is required where chance changes fewer answers than that, or there is none."""
    found = study(pair)
    tracing = replace(found.tracing, same_tau=same)
    found = replace(found, runs=replace(found.runs, floats=floor), tracing=tracing)
    assert any("same decay factors" in failure for failure in found.failures) == failed
    assert f"at least {50 if floor == 0.5 else 97}.0 % is required" in words.agreeing(found)


def test_chunks_give_what_one_run_gives(pair: tuple[Checkpoint, Network], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study(pair)
    monkeypatch.setattr("randhet.compare.equality.tracing.TRACE_BYTES", 1)
    one_by_one = study(pair)
    assert one_by_one.tracing.same_tau == whole.tracing.same_tau
    assert one_by_one.tracing.float_divergence == whole.tracing.float_divergence
    assert [row.same_spikes for row in one_by_one.layers] == [row.same_spikes for row in whole.layers]


@pytest.mark.usefixtures("wrong")
def test_a_wrong_weight_is_found_one_layer_at_a_time(
    pair: tuple[Checkpoint, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a recording whose traces do not fit in memory: the same count of values, difference and cause."""
    one_image = 16 * MODEL.steps * sum(map(prod, pair[1].shapes))
    monkeypatch.setattr("randhet.compare.equality.tracing.TRACE_BYTES", one_image)
    assert len(groups(pair[1])) == chunk_size(pair[1]) == 1
    whole = study(pair, "wrong").tracing
    monkeypatch.setattr("randhet.compare.equality.tracing.TRACE_BYTES", 1)
    assert [len(names) for names in groups(pair[1])] == [1] * len(pair[1].layers)
    one_by_one = study(pair, "wrong").tracing
    timeless = lambda finding: replace(finding, seconds=0)
    assert timeless(one_by_one.backends["wrong"]) == timeless(whole.backends["wrong"])
    assert one_by_one.saturations == whole.saturations


@pytest.mark.usefixtures("wrong")
def test_one_weight_off_by_one_is_found_and_said(pair: tuple[Checkpoint, Network]) -> None:
    found = study(pair, "wrong")
    at = found.tracing.backends["wrong"].divergence
    assert at is not None
    assert (at.image, at.step, at.layer, at.quantity) == (0, 0, "node1", "membrane")
    changed = wrong_backend.changed(pair[1])
    one, other = (
        reference.run(network, IMAGES.pixels, seed=4, probes=["node1"]).traces["node1"].membrane
        for network in (pair[1], changed)
    )
    assert one is not None
    assert other is not None
    place = (0, 0, *at.neuron)
    assert (at.expected, at.found) == (one[place], other[place])
    assert any("wrong" in sentence for sentence in found.failures)
    assert words.headline(found).startswith("Do not deploy")
    said = "\n".join(words.paragraphs(found))
    assert f"layer node1, neuron {at.neuron}" in said
    assert str(at.expected) in said
    assert not words.as_dict(found)["backends"]["wrong"]["identical"]


@pytest.mark.lava
def test_lava_equals_the_reference_in_every_chunk(
    pair: tuple[Checkpoint, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("randhet.compare.equality.tracing.TRACE_BYTES", 3 * 16 * 3 * 1000)
    finding = study(pair, "lava").tracing.backends["lava"]
    assert finding.identical
    neurons = (
        3 * (6 * 5) * 3 + 3 * (4 * 3 * 3) + 3
    )  # stem and a block of 3x6x5, a block and shortcut of 4x3x3, 3 classes
    assert finding.membranes == len(IMAGES) * MODEL.steps * neurons


@pytest.mark.parametrize("neuron", ["randhet", "het"])
def test_every_backend_subtracts_as_the_reference_does(neuron: NeuronKind) -> None:
    """And the float model's first odd spike is a matter of rounding, with what a spike leaves of both."""
    checkpoint = random_init(replace(MODEL, neuron=neuron, reset="subtract"), seed=2)
    network = export_checkpoint(checkpoint, IMAGES.pixels).network
    assert {layer.lif.reset for layer in network.layers if layer.lif} == {"subtract"}
    found = study((checkpoint, network), *available())
    assert {name: it.divergence for name, it in found.tracing.backends.items()} == dict.fromkeys(
        name for name in available() if name != "reference"
    )
    odd = found.tracing.float_divergence
    assert odd is None or odd.at.cause in ("rounding", "tie")


def test_json_has_the_keys_that_others_rely_on(pair: tuple[Checkpoint, Network], tmp_path: Path) -> None:
    found = study(pair)
    report.write_json(tmp_path / "compare.json", report.Report(found))
    content = json.loads((tmp_path / "compare.json").read_text())
    assert set(content) >= KEYS
    assert content["equivalent"] == (found.difference.finding == "equivalent")
    assert content["finding"] == found.difference.finding
    assert list(tmp_path.iterdir()) == [tmp_path / "compare.json"]


def test_report_says_the_verdict_first_and_stands_alone(pair: tuple[Checkpoint, Network], tmp_path: Path) -> None:
    found = replace(study(pair), data="<script>alert(1)</script>", absent={"engine": "a & b"})
    report.write(tmp_path / "report.html", report.Report(found))
    page = (tmp_path / "report.html").read_text()
    assert page.index(words.headline(found)) < page.index("<table")
    assert "<script" not in page
    assert "a &amp; b" in page
    assert "http" not in page
    assert "src=" not in page
    assert all(layer.layer in page for layer in found.layers)


def test_deterministic_networks_run_once_and_need_no_interval() -> None:
    checkpoint = random_init(replace(MODEL, neuron="vanilla"), seed=2)
    network = export_checkpoint(checkpoint, IMAGES.pixels).network
    found = study((checkpoint, network))
    assert len(found.floats.accuracies) == len(found.fixed.accuracies) == 1
    assert found.difference.low == found.difference.high == found.difference.value
    assert found.agreement == np.mean(
        [a == b for a, b in zip(_float_predictions(checkpoint), reference.run(network, IMAGES.pixels).predictions)]
    )


def _float_predictions(checkpoint: Checkpoint) -> Any:
    import torch

    from randhet.train.checkpoint import build

    with torch.no_grad():
        return build(checkpoint)(torch.from_numpy(IMAGES.pixels).float() / 255).argmax(1).numpy()


def test_pairs_that_do_not_belong_together_are_refused(pair: tuple[Checkpoint, Network]) -> None:
    checkpoint, network = pair
    with pytest.raises(RandhetError, match="other weights"):
        compare(random_init(MODEL, seed=3), network, IMAGES, StudySettings(backends=()), silent)
    wide = replace(IMAGES, pixels=np.zeros((6, 1, 7, 5), np.uint8))
    with pytest.raises(RandhetError, match=r"images are uint8 of shape \(1, 7, 5\)"):
        compare(checkpoint, network, wide, StudySettings(backends=()), silent)
    named, two = replace(network, classes=("a", "b", "c")), replace(IMAGES, classes=("a", "z"))
    with pytest.raises(RandhetError, match="has the class 'z', the network has a, b, c"):
        compare(checkpoint, named, two, StudySettings(backends=()), silent)


@pytest.mark.parametrize(
    ("settings", "said"), [({"draws": 0}, "draws is 0"), ({"seed": 2**64}, "seed is"), ({"margin": 0}, "margin is 0")]
)
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RandhetError, match=said):
        StudySettings(**settings)


def test_backends_asked_for_must_exist_and_run(pair: tuple[Checkpoint, Network]) -> None:
    with pytest.raises(BackendError, match="'gpu' is not one of reference"):
        study(pair, "gpu")
    reason = missing()
    if reason:
        with pytest.raises(BackendError, match=re.escape(reason)):
            study(pair, "lava")
    assert "reference" in backends.available()


@pytest.mark.parametrize("name", BACKENDS)
def test_every_row_of_the_table_runs_or_says_why(name: str, pair: tuple[Checkpoint, Network]) -> None:
    if reason := BACKENDS[name].missing():
        pytest.skip(f"{name}: {reason}")
    expected = reference.run(pair[1], IMAGES.pixels[:2], seed=8, first_image=5, probes=["node1"])
    found = backends.runner(name)(pair[1], IMAGES.pixels[:2], seed=8, first_image=5, probes=["node1"])
    np.testing.assert_array_equal(found.sums, expected.sums)
    np.testing.assert_array_equal(found.traces["node1"].membrane, expected.traces["node1"].membrane)
    assert dict(found.spikes) == dict(expected.spikes)
