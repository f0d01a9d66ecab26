"""Small valid files of every kind that is read: what fuzzing and the tests of hostile files start from.

Many small networks instead of one large: a reader's time goes by the number of entries of a file.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch

from fuzz import recordings
from randhet.base import parallel
from randhet.export.graph import (
    Encoding,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatInput,
    FloatNeuron,
    FloatNode,
    TimeMean,
)
from randhet.export.nir import write as nir_write
from randhet.export.onnx import integer_graph as onnx_integer
from randhet.fixed_point.chips import chip
from randhet.fixed_point.network import (
    Add,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    Operation,
    PerNeuron,
    ReadOut,
    SumPool,
)
from randhet.netx import write as netx
from randhet.train import checkpoint
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.published import neuron_order

TINY = ModelSettings(1, 2, (2, 2), (1,), (1,), steps=1)
Files = list[bytes]


def written(write: Callable[[Path], None], name: str) -> bytes:
    """What a writer leaves in its file."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


# --- networks ---------------------------------------------------------------------------------------------------------


def _one(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int32)


def _conv(size: int) -> Conv:
    weight = np.arange(size * size, dtype=np.int8).reshape(1, 1, size, size) - 4
    return Conv(weight, padding=(size // 2, size // 2))


def network() -> Network:
    """A few layers of several kinds."""
    return Network(
        (
            Layer("input", Input((1, 4, 4))),
            Layer("a", _conv(3), (0,), Lif(_one(9, 1), _one(-3, 1), Drawn(neurons_per_core=5)), np.array([0.25])),
            Layer("b", _conv(3), (1,), Lif(_one(9, 1), _one(0, 1)), np.array([0.5])),
            Layer("sum", Add(), (1, 2)),
            Layer("pool", SumPool((2, 2), (2, 2)), (3,)),
            Layer("read", Dense(np.ones((2, 4), np.int8)), (4,), ReadOut(_one(1, 2)), np.array([0.5])),
        ),
        steps=2,
        classes=("no", "yes"),
        metadata={"source": "abc"},
    )


def _second_layers() -> list[tuple[tuple[int, ...], Operation, Neuron | None]]:
    """The image's shape, and the one layer after it: every operation and every neuron at least once."""
    threshold, bias = _one(9, 1), _one(-3, 1)
    image = (1, 2, 2)
    return [
        (image, _conv(1), Lif(threshold, bias, Drawn(neurons_per_core=5))),
        (image, _conv(1), Lif(threshold, bias, Drawn(sampling="forward"))),
        (image, _conv(3), Lif(threshold, bias, reset="subtract")),
        (image, _conv(1), Lif(threshold, bias, PerNeuron(np.arange(1, 5, dtype=np.int32).reshape(1, 2, 2)))),
        ((2,), Dense(np.ones((1, 2), np.int8)), Cuba(threshold, bias, 100, 200)),
        ((2,), Dense(np.ones((1, 2), np.int8)), ReadOut(bias)),
        (image, SumPool((2, 2), (2, 2)), None),
        (image, Flatten(), None),
        (image, Add(), None),
    ]


VERSION_1 = Path(__file__).parents[1] / "tests" / "netx" / "version1"


def nets() -> Files:
    """Each a network of an image and one layer; and files of version 1."""
    contents = [(VERSION_1 / f"{name}.net").read_bytes() for name in ("rhlif-step", "lif", "hetlif", "cuba-stock")]
    for shape, operation, neuron in _second_layers():
        inputs = (0, 0) if isinstance(operation, Add) else (0,)
        layer = Layer("a", operation, inputs, neuron, np.array([0.5]) if neuron else None)
        contents.append(net(Network((Layer("input", Input(shape)), layer), 1, metadata={"source": "abc"})))
    return contents


def net(network: Network) -> bytes:
    """A `.net` file."""
    return written(lambda path: netx.write(path, network), "a.net")


# --- NIR --------------------------------------------------------------------------------------------------------------


def float_graph() -> FloatGraph:
    """A chain that NIR can say."""
    return FloatGraph(
        (
            FloatNode("input", FloatInput((1, 3, 3))),
            FloatNode("conv", FloatConv(np.ones((2, 1, 2, 2)), np.zeros(2)), ("input",)),
            FloatNode("encode", Encoding(2), ("conv",)),
            FloatNode("node", FloatNeuron("randhet", 0.5), ("encode",)),
            FloatNode("flat", FloatFlatten(), ("node",)),
            FloatNode("fc", FloatDense(np.ones((2, 8)), np.zeros(2)), ("flat",)),
            FloatNode("mean", TimeMean(), ("fc",)),
        )
    )


def nir_of(graph: nir.NIRGraph) -> bytes:
    """A `.nir` file."""
    return written(lambda path: nir_write.save(path, graph), "a.nir")


def _chain(shape: tuple[int, ...], *nodes: nir.NIRNode) -> bytes:
    """A foreign graph: image, nodes in a row, output."""
    image = nir.Input(np.array(shape))
    named = {"in": image, **{f"n{i}": node for i, node in enumerate(nodes)}}
    named["out"] = nir.Output(np.array([1]))
    return nir_of(nir.NIRGraph(named, list(pairwise(named)), type_check=False))


def _recurrent() -> nir.NIRGraph:
    """A neuron that reads its own spikes, in a graph of its own."""
    ones = np.ones(1)
    nodes = {"in": nir.Input(ones), "lif": nir.LIF(ones * 0.01, ones, ones * 0, ones)}
    nodes |= {"back": nir.Linear(np.ones((1, 1))), "out": nir.Output(ones)}
    edges = [("in", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "out")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def nirs() -> Files:
    """One of our own, and foreign ones of every node that is read."""
    ones, linear = np.ones(1), nir.Affine(np.ones((1, 2)), np.ones(1))
    conv = nir.Conv2d((1, 1), np.ones((1, 1, 1, 1)), 1, 0, 1, 1, np.zeros(1))
    wide = nir.Conv2d((2, 2), np.ones((1, 1, 2, 2)), 1, 0, 1, 1, np.zeros(1))
    short = FloatGraph(
        (
            FloatNode("input", FloatInput((2,))),
            FloatNode("encode", Encoding(1), ("input",)),
            FloatNode("fc", FloatDense(np.ones((1, 2)), np.zeros(1)), ("encode",)),
            FloatNode("mean", TimeMean(), ("fc",)),
        )
    )
    return [
        nir_of(nir_write.to_nir(short)),
        _chain((2,), linear, nir.LIF(ones * 0.01, ones, ones * 0, ones)),
        _chain((2,), nir.Linear(np.ones((1, 2))), nir.IF(ones, ones)),
        _chain((2,), nir.Scale(np.array([1.0, 2])), linear, nir.Threshold(ones)),
        _chain((1, 2), nir.Conv1d(2, np.ones((1, 1, 2)), 1, 0, 1, 1, ones), nir.IF(ones[:, None], ones[:, None])),
        _chain((2,), linear, _recurrent()),
        _chain((2,), nir.Linear(np.ones((1, 2))), nir.CubaLIF(ones * 0.01, ones * 0.01, ones, ones * 0, ones)),
        _chain((1, 2, 2), wide, nir.IF(np.ones((1, 1, 1)), np.ones((1, 1, 1)))),
        _chain((1, 2, 2), nir.AvgPool2d(2, 2, 0), nir.Flatten({"input": np.array([1, 1, 1])}, 0, -1)),
        _chain((1, 2, 2), nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), conv),
    ]


# --- ONNX, checkpoints, state dicts -----------------------------------------------------------------------------------


def onnxs() -> Files:
    """Without and with neurons; none that draw, whose table of jumps takes 800 kB."""
    first = Layer("input", Input((2,)))
    dense = Dense(np.ones((2, 2), np.int8))
    return [
        onnx_integer.model(Network((first, Layer("r", dense, (0,), neuron)), 1)).SerializeToString()
        for neuron in (ReadOut(_one(0, 2)), Lif(_one(9, 2), _one(0, 2)))
    ]


@lru_cache
def checkpoints() -> Files:
    """Of a network that has just been made, and of one whose training may go on."""
    state = SEWResNet(TINY, (0.5,), (0.25,)).state_dict()
    fresh = checkpoint.Checkpoint(TINY, state, (0.5,), (0.25,), record={"epoch": 1}, versions={})
    going = checkpoint.Checkpoint(TINY, state, (0.5,), (0.25,), "digits", ("a", "b"), resume={"epoch": 1}, versions={})
    return [written(lambda path, data=data: checkpoint.save(path, data), "a.pt") for data in (fresh, going)]  # type: ignore[misc]


def published(kind: str) -> dict[str, torch.Tensor]:
    """A bare state dict as the paper's released script writes it, of a network with one block of one channel."""
    settings = ModelSettings(3, 2, widths=(1,), blocks=(1,), neuron="vanilla")
    state = dict(SEWResNet(settings, (0.5,) * 3, (0.25,) * 3).state_dict())
    for name in neuron_order(settings):
        state |= {f"{name}.threshold": torch.tensor(0.5), f"{name}.act_fun.alpha": torch.tensor(2.0)}
        state[f"{name}.w"] = torch.zeros(1, 32, 32) if kind == "het" else torch.tensor(0.0)
        if kind == "randhet":
            state[f"{name}.sigma"] = torch.tensor(1.0)
    return state


@lru_cache
def states() -> Files:
    """Bare state dicts with random, learned and constant decay."""
    contents = []
    for kind in ("randhet", "het", "vanilla"):
        stream = io.BytesIO()
        torch.save(published(kind), stream)
        contents.append(stream.getvalue())
    return contents


# --- recordings -------------------------------------------------------------------------------------------------------

FEW = recordings.some(12, rows=8, columns=8)


def events(*names: str) -> Files:
    """Few events of 8 x 8 pixels by the writers of these names."""
    return [written(lambda path, name=name: recordings.WRITERS[name](path, FEW), name) for name in names]  # type: ignore[misc]


def frames(name: str) -> Files:
    """Frames (2, 2, 3, 3) that are ready: .npy or .npz."""
    values = np.arange(36, dtype=np.uint8).reshape(2, 2, 3, 3)
    save = (
        (lambda path: np.save(path, values)) if name.endswith(".npy") else (lambda path: np.savez(path, frames=values))
    )
    return [written(save, name)]


def spikes() -> Files:
    """Two recordings as in SHD."""
    pair = [([0.0, 0.5, 1.0], [0, 8, 3]), ([0.25], [1])]
    return [written(lambda path: recordings.spikes(path, pair, [1, 0]), "test.h5")]


# --- the rest ---------------------------------------------------------------------------------------------------------


def idxs() -> Files:
    return [struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(8), struct.pack(">HBBI", 0, 8, 1, 3) + b"\0\1\2"]


def pictures() -> Files:
    """Of every format and mode that is read."""
    from PIL import Image

    def encoded(kind: str, mode: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        Image.new(mode, (3, 2), (1, 255) if mode == "LA" else 1).save(stream, kind, **options)
        return stream.getvalue()

    plain: Sequence[tuple[str, str]] = (
        ("PNG", "L"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("PNG", "1"), ("PNG", "I;16"), ("JPEG", "L"),
        ("JPEG", "RGB"), ("BMP", "RGB"), ("GIF", "L"), ("PPM", "L"), ("PPM", "RGB"), ("TIFF", "RGB"), ("TIFF", "I;16"),
        ("WEBP", "RGB"),
    )  # fmt: skip
    return [*(encoded(*pair) for pair in plain), encoded("TIFF", "L", compression="tiff_lzw")]


def results() -> Files:
    header = {"format": parallel.FORMAT, "identity": {"seed": 1}}
    lines = [json.dumps(line) for line in (header, {"piece": "a", "result": [1.5]}, {"piece": "b", "result": {"x": 2}})]
    return [("\n".join(lines) + "\n").encode()]


def tables() -> Files:
    """Settings of a training run."""
    model = '[model]\nname = "sew-small"\nwidths = [4, 8]\nblocks = "1,1"\n'
    training = '[training]\neps = "4/255"\nepochs = 2\nlr = 0.1\n'
    return [(model + training).encode(), b'[training]\ndata = "cifar10"\nobjective = "rat"\n']


def chips() -> Files:
    return [(chip.FOLDER / "loihi1.toml").read_bytes()]
