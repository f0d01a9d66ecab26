"""The 8-bit ReLU network beside the spiking one: both libraries compute it, against integers of NumPy."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from randhet.base.errors import RandhetError
from randhet.benchmarks.ann import network as anns
from randhet.benchmarks.ann import onednn
from randhet.benchmarks.machine import machine
from randhet.benchmarks.networks import SIZES, at_rate, integer, patches
from randhet.cli.app import app
from randhet.fixed_point.network import Add, Conv, Dense, Flatten, Input, Layer, MaxPool, Network, SumPool

SETTINGS = SIZES["tiny"]
HALF = 64
"""Two products of a byte and a weight of at most this size stay within 16 bits: exact on every processor."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return patches(4, SETTINGS.image_size)


@pytest.fixture(scope="module")
def network(images: np.ndarray) -> Network:
    return integer(at_rate(SETTINGS, 0.2, images), images)[0]


def smaller(network: Network) -> Network:
    """The network with weights of at most HALF."""
    layers = []
    for layer in network.layers:
        if operation := layer.weighted:
            layer = replace(layer, operation=replace(operation, weight=np.clip(operation.weight, -HALF, HALF)))
        layers.append(layer)
    return Network(tuple(layers), network.steps)


def sums(operation: Conv | Dense, x: np.ndarray) -> np.ndarray:
    """Integer sums by the definition: windows of the padded input times weights."""
    if isinstance(operation, Dense):
        return x @ operation.weight.astype(np.int64).T
    (py, px), (sy, sx) = operation.padding, operation.stride
    padded = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, operation.weight.shape[2:], (2, 3))[:, :, ::sy, ::sx]
    return np.einsum("ncyxij,ocij->noyx", windows, operation.weight.astype(np.int64))


def evaluated(ann: anns.Ann, pixels: np.ndarray) -> list[np.ndarray]:
    """What every layer sends, from integers; the one product with a real number is that of the rounding."""
    sent: list[np.ndarray] = []
    for layer, quantum in zip(ann.layers, ann.quanta):
        read = [(sent[i], ann.quanta[i]) for i in layer.inputs]
        match layer.operation:
            case Input():
                made = pixels.astype(np.int64)
            case Conv() | Dense():
                ((x, before),) = read
                assert quantum.bias is not None
                total = sums(layer.operation, x - before.zero)
                total += quantum.bias.reshape(-1, *(1,) * (total.ndim - 2))
                made = np.rint(total * (before.scale * quantum.weight / quantum.scale)) + quantum.zero
            case Add():
                made = np.rint(sum(x * before.scale for x, before in read) / quantum.scale)
            case SumPool():
                made = np.rint(read[0][0].sum((2, 3), keepdims=True) / np.prod(layer.operation.kernel))
            case Flatten():
                made = read[0][0].reshape(len(pixels), -1)
            case _:
                raise AssertionError(layer)
        sent.append(np.clip(made, 0, 255).astype(np.int64))
    return sent


def forward(library: str, ann: anns.Ann, network: Network, batch: int) -> anns.Forward:
    """The pass in a library, which is skipped where it is not here."""
    if library == "onnx_model":
        pytest.importorskip("onnxruntime")
    elif reason := onednn.missing():
        pytest.skip(reason)
    made: anns.Forward = import_module(f"randhet.benchmarks.ann.{library}").make(ann, network, batch, 1)
    return made


@pytest.mark.parametrize("library", ["onnx_model", "onednn"])
@pytest.mark.parametrize("whole", [False, True], ids=["half weights", "whole weights"])
def test_every_layer_is_the_integers_within_a_step(
    library: str, whole: bool, network: Network, images: np.ndarray
) -> None:
    if whole and not {"avx_vnni", "avx512_vnni"} & set(machine()["features"]):
        pytest.skip("without VNNI both libraries let sums of two products saturate")
    network = network if whole else smaller(network)
    ann = anns.calibrated(network, images[:2])
    expected = evaluated(ann, images)
    assert {type(layer.operation) for layer in network.layers} == {Input, Conv, Dense, Add, SumPool, Flatten}
    for count in range(2, len(network.layers) + 1):
        part = Network(network.layers[:count], network.steps)
        seen = forward(library, anns.Ann(part.layers, ann.quanta[:count]), part, len(images))(images)
        assert seen.dtype == np.uint8 and seen.std() > 5
        assert np.abs(seen - expected[count - 1]).max() <= 1, network.layers[count - 1].name


def test_scales_use_the_bits_and_biases_leave_half_of_the_units_active(network: Network, images: np.ndarray) -> None:
    sent = evaluated(anns.calibrated(network, images), images)
    for layer, values in zip(network.layers, sent):
        if isinstance(layer.operation, Conv):
            assert values.max() == 255 and 0.25 < (values > 0).mean() < 0.75
        elif isinstance(layer.operation, Dense):
            assert np.abs(values - anns.MIDDLE).max() == 127


def test_onnxruntime_runs_integer_kernels(tmp_path: Path, network: Network, images: np.ndarray) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from randhet.benchmarks.ann import onnx_model

    model = onnx_model.model(anns.calibrated(network, images), network, len(images))
    onnx_model.session(model, 1, tmp_path / "optimised.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    assert (kinds["QLinearConv"], kinds["QLinearAdd"]) == (6, 2)
    assert kinds["QGemm"] + kinds["QLinearMatMul"] == 1
    assert not kinds.keys() & {"Conv", "FusedConv", "Gemm", "MatMul", "Add", "QuantizeLinear", "DequantizeLinear"}


def test_the_file_keeps_every_quantum(tmp_path: Path, network: Network, images: np.ndarray) -> None:
    ann = anns.calibrated(network, images)
    anns.save(tmp_path / "ann.npz", ann)
    again = anns.load(tmp_path / "ann.npz", network)
    for one, other in zip(ann.quanta, again.quanta):
        assert (one.scale, one.zero, one.weight) == (other.scale, other.zero, other.weight)
        assert np.array_equal(one.bias, other.bias) if one.bias is not None else other.bias is None


def test_a_layer_that_is_no_part_of_it_is_refused() -> None:
    layers = (Layer("input", Input((2, 4, 4))), Layer("pool", MaxPool((2, 2), (2, 2)), (0,)))
    with pytest.raises(RandhetError, match="layer pool is a MaxPool, the 8-bit ANN has convolutions"):
        anns.calibrated(Network(layers, 2), np.zeros((1, 2, 4, 4), np.uint8))


def test_both_are_rows_of_the_benchmark() -> None:
    pytest.importorskip("onnxruntime")
    names = ["ann-onnxruntime", "ann-onednn"]
    made = CliRunner().invoke(app, [
        "bench", "--size", "tiny", "--rates", "0.2", "--batch", "2", "--threads", "1", "--repeats", "1", "--json",
        "--contenders", ",".join(names),
    ])  # fmt: skip
    assert made.exit_code == 0, made.stderr
    rows: list[dict[str, Any]] = json.loads(made.stdout)["rows"]
    assert [row["name"] for row in rows] == names
    for row in rows:
        assert row["ms_per_image"] > 0 or row["note"]
        assert not row["failed"], row["note"]
