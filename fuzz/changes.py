"""Changes to valid files by choices, for readers of formats whose own checks refuse random bytes at once.

Each change takes a file's bytes and a function that chooses whole numbers, and gives the bytes of another file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import onnx
import torch
from torch import Tensor

Integer = Callable[[int, int], int]
"""A choice: a whole number between two limits, both included."""
Change = Callable[[bytes, Integer], bytes]
IMPOSSIBLE = (ValueError, TypeError, RuntimeError, OSError, LookupError, ArithmeticError, AttributeError)
"""What the writing library says to a change that its format does not allow."""


class Choices:
    """Choices from the bytes of an input, little-endian from its start; the lowest ones once it is used up.

    ValueError where there is nothing to choose from.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def __call__(self, low: int, high: int) -> int:
        if high < low:
            raise ValueError("nothing to choose from")
        count = (high - low).bit_length() + 7 >> 3
        chunk = self.data[self.position : self.position + count]
        self.position += count
        return low + int.from_bytes(chunk, "little") % (high - low + 1)


def pick(choose: Integer, values: Any) -> Any:
    """One of a sequence."""
    return values[choose(0, len(values) - 1)]


# --- values of any kind -----------------------------------------------------------------------------------------------

NUMBERS = (0, 1, -1, 2, 3, 127, 128, 255, 2**20, 2**31 - 1, -(2**31), 2**62)
VALUES: tuple[Any, ...] = (
    *NUMBERS, 0.5, -0.0, 1e300, float("nan"), float("inf"), 10**30, True, None, "", "randhet", "é\n\x1b", (), (1,),
    (2, 2), [], [[]], {}, {"a": 1}, {1: 2},
)  # fmt: skip


def altered(value: Any, choose: Integer) -> Any:
    """Nested dicts, lists and tensors with one entry, at any depth, changed, dropped or repeated."""
    if isinstance(value, dict) and value and choose(0, 9):
        key = pick(choose, list(value))
        if choose(0, 7):
            return {**value, key: altered(value[key], choose)}
        rest = {name: content for name, content in value.items() if name != key}
        return rest if choose(0, 1) else {**rest, pick(choose, ("", "a", f"{key}.x", 3)): value[key]}
    if isinstance(value, (list, tuple)) and value and choose(0, 5):
        i = choose(0, len(value) - 1)
        middle = pick(choose, ([altered(value[i], choose)],) * 3 + ([], [value[i]] * 2))
        return type(value)([*value[:i], *middle, *value[i + 1 :]])
    if isinstance(value, Tensor):
        return pick(choose, TENSORS)(value, choose)
    return pick(choose, VALUES)


def _one_number(value: Tensor, choose: Integer) -> Tensor:
    changed = value.clone().reshape(-1)
    changed[choose(0, len(changed) - 1)] = pick(choose, VALUES[:15])
    return changed.reshape(value.shape)


TENSOR_TYPES = (
    torch.float16, torch.float64, torch.bfloat16, torch.int8, torch.int64, torch.bool, torch.complex64,
    torch.float8_e4m3fn,
)  # fmt: skip
TENSORS: tuple[Callable[[Tensor, Integer], Any], ...] = (
    _one_number,
    lambda value, choose: value.to(pick(choose, TENSOR_TYPES)),
    lambda value, choose: value.flatten()[:1].expand(
        pick(choose, ((), (1,), (2**40,), (2, 2), (1, 1, 3, 3), (1,) * 9))
    ),
    lambda value, choose: value.flatten()[:0],
    lambda value, choose: value[None],
    lambda value, choose: value.to_sparse(),
    lambda value, choose: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8),
    lambda value, choose: torch.nn.Parameter(value),
    lambda value, choose: value.to("meta"),
    lambda value, choose: pick(choose, VALUES),
)


def text_altered(text: str, choose: Integer) -> str:
    """A JSON text with one entry changed; any other text made another one."""
    try:
        return json.dumps(altered(json.loads(text), choose))
    except ValueError:
        return str(pick(choose, WORDS))


# --- checkpoints ------------------------------------------------------------------------------------------------------


def change_content(content: bytes, choose: Integer) -> bytes:
    """One or two entries of what torch saved."""
    value = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(choose(1, 2)):
        value = altered(value, choose)
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def change_fields(content: bytes, choose: Integer) -> bytes:
    """One to three entries replaced: by other values, types, shapes, links, unpacked sizes, or by nothing."""
    with in_memory(content) as file:
        change_entries(file, FIELDS, 3, choose)
        file.flush()
        return bytes(file.id.get_file_image())


def change_entries(group: h5py.Group, ways: Any, most: int, choose: Integer) -> None:
    """One to `most` changes, each one of these ways, to entries at any depth below a group."""
    names: list[str] = []
    group.visit(names.append)
    for _ in range(choose(1, most)):
        change, name = pick(choose, ways), pick(choose, names)
        if name in group:
            change(group, name, choose)


def in_memory(content: bytes) -> h5py.File:
    """The file, to be changed without a disk: several times quicker than through a stream of Python."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fapl_core(backing_store=False)
    access.set_file_image(content)
    return h5py.File(h5py.h5f.open(b"memory", h5py.h5f.ACC_RDWR, fapl=access))


LARGEST = 2**20
"""Values of an entry that is changed in place."""
SHAPES = ((), (0,), (1,), (2,), (1, 1), (3, 1), (1, 1, 3, 3), (2**12,), (1,) * 8)
TYPES = ("i1", "u1", "<i4", ">i8", "u8", "f4", "f8", "c8", "S3", "b1")
WORDS = ("", "conv", "dense", "LIF", "IF", "CubaLIF", "LI", "NIRGraph", "Conv2d", "same", "step", "{", "é" * 9)


def new_array(file: h5py.File, name: str, choose: Integer) -> None:
    kind, shape = pick(choose, TYPES), pick(choose, SHAPES)
    value = np.full(shape, pick(choose, NUMBERS)).astype(kind)
    del file[name]
    file[name] = value


def new_values(file: h5py.File, name: str, choose: Integer) -> None:
    old = file[name]
    # what an earlier change made huge is a reader's trouble, not ours
    if isinstance(old, h5py.Dataset) and old.dtype.kind in "iuf" and 0 < old.size <= LARGEST:
        value = np.array(old)
        value.flat[choose(0, value.size - 1)] = np.array(pick(choose, NUMBERS)).astype(value.dtype)
        del file[name]
        file[name] = value


def new_text(file: h5py.File, name: str, choose: Integer) -> None:
    old = file[name]
    known = isinstance(old, h5py.Dataset) and old.dtype.kind == "O" and old.shape == ()
    word = text_altered(old.asstr()[()], choose) if known else pick(choose, WORDS)
    del file[name]
    file[name] = np.array([word.encode()]) if choose(0, 1) else word


def unlinked(file: h5py.File, name: str, choose: Integer) -> None:
    del file[name]


def linked(file: h5py.File, name: str, choose: Integer) -> None:
    """To itself, to its parent, to nowhere, to another file."""
    links = (file[name].parent, h5py.SoftLink("/nowhere"), h5py.SoftLink(name), h5py.ExternalLink("/etc/hostname", "/"))
    del file[name]
    file[name] = pick(choose, links)


def packed(file: h5py.File, name: str, choose: Integer) -> None:
    """A shape with nothing or little behind it."""
    del file[name]
    size = 2 ** choose(0, 36)
    chunk = min(size, 2 ** choose(0, 31))
    file.create_dataset(name, (size,), "i1", chunks=(chunk,), compression=pick(choose, (None, "gzip")))


def attribute(file: h5py.File, name: str, choose: Integer) -> None:
    """Of the root: numbers, texts, an array; a JSON text with an entry changed."""
    key = pick(choose, list(file.attrs) or ["seed"])
    values: tuple[Any, ...] = (*NUMBERS, 1.5, float("nan"), "", "[]", "{}", "[" * 5000, np.zeros((2, 2)), "[[1]]")
    old = file.attrs.get(key)
    file.attrs[key] = text_altered(old, choose) if isinstance(old, str) and choose(0, 1) else pick(choose, values)


FIELDS = (new_array, new_values, new_values, new_text, unlinked, linked, packed, attribute)


# --- NumPy files ------------------------------------------------------------------------------------------------------


def change_arrays(content: bytes, choose: Integer) -> bytes:
    """One or two arrays of an archive of NumPy changed, or one that says what it is not."""
    with np.load(io.BytesIO(content)) as found:
        arrays = dict(found)
    for _ in range(choose(1, 2)):
        name = pick(choose, list(arrays))
        pick(choose, ARRAYS)(arrays, name, choose)
    stream = io.BytesIO()
    pick(choose, (np.savez, np.savez_compressed))(stream, **arrays)
    return stream.getvalue() if choose(0, 3) else _lying(arrays, choose)


def _lying(arrays: dict[str, Any], choose: Integer) -> bytes:
    """Headers that say a shape, a type and an order, and what bytes there are behind them."""
    stream = io.BytesIO()
    with zipfile.ZipFile(
        stream, "w", pick(choose, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    ) as out:
        for name, array in arrays.items():
            shape = pick(choose, (array.shape, (2 ** choose(0, 62),), (-1,), (2**20, 2**20), (-4, -4)))
            kind = pick(choose, (array.dtype.str, "|O", "<i8", "|V1000000", "<M8[s]", [("t", "<i8")], "<f8"))
            text = repr({"descr": kind, "fortran_order": bool(choose(0, 1)), "shape": shape}).encode() + b"\n"
            head = np.lib.format.MAGIC_PREFIX + bytes([choose(0, 3), 0]) + len(text).to_bytes(2, "little") + text
            out.writestr(f"{name}.npy", head + array.tobytes() * choose(0, 2))
    return stream.getvalue()


def _other_value(arrays: dict[str, Any], name: str, choose: Integer) -> None:
    value = np.array(arrays[name])
    value.flat[choose(0, value.size - 1)] = np.array(pick(choose, NUMBERS)).astype(value.dtype)
    arrays[name] = value


def _other_kind(arrays: dict[str, Any], name: str, choose: Integer) -> None:
    arrays[name] = arrays[name].astype(pick(choose, TYPES))


def _other_shape(arrays: dict[str, Any], name: str, choose: Integer) -> None:
    arrays[name] = np.resize(arrays[name], pick(choose, SHAPES))


def _renamed(arrays: dict[str, Any], name: str, choose: Integer) -> None:
    arrays[str(pick(choose, ("t", "frames", "a", "", "../a")))] = arrays.pop(name)


ARRAYS = (_other_value, _other_value, _other_kind, _other_shape, _renamed)


# --- ONNX -------------------------------------------------------------------------------------------------------------


def change_model(content: bytes, choose: Integer) -> bytes:
    """One to three changes to nodes, initialisers, metadata."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(choose(1, 3)):
        pick(choose, MODEL)(model, choose)
    return bytes(model.SerializeToString())


def _metadata(model: onnx.ModelProto, choose: Integer) -> None:
    entry = pick(choose, model.metadata_props)
    if choose(0, 5):
        entry.value = text_altered(entry.value, choose)
    else:
        entry.key = str(pick(choose, ("", "randhet.kind", "randhet.cores", "a")))


def _node(model: onnx.ModelProto, choose: Integer) -> None:
    node = pick(choose, model.graph.node)
    inner = onnx.helper.make_graph([onnx.helper.make_node(pick(choose, ("Loop", "Add")), ["a"], ["b"])], "g", [], [])
    changes: tuple[Callable[[], Any], ...] = (
        lambda: setattr(node, "op_type", pick(choose, ("Loop", "If", "Add", "Scan", "", "\0", "é"))),
        lambda: setattr(node, "domain", pick(choose, ("", "com.microsoft", "ai.onnx.ml"))),
        lambda: node.attribute.append(onnx.helper.make_attribute(pick(choose, ("body", "to", "axis")), inner)),
        lambda: node.attribute.append(onnx.helper.make_attribute("to", pick(choose, NUMBERS))),
        lambda: node.input.append(pick(choose, ("", "images", "nothing"))),
        lambda: model.graph.node.remove(node),
        lambda: model.graph.node.append(node),
    )
    pick(choose, changes)()


def _tensor(model: onnx.ModelProto, choose: Integer) -> None:
    tensor = pick(choose, model.graph.initializer)
    changes: tuple[Callable[[], Any], ...] = (
        lambda: tensor.external_data.add(
            key="location", value=pick(choose, ("../a", "file.onnx.data", "/etc/hostname"))
        ),
        lambda: setattr(tensor, "data_location", onnx.TensorProto.EXTERNAL),
        lambda: setattr(tensor, "data_type", choose(0, 25)),
        lambda: setattr(tensor, "raw_data", bytes(choose(0, 16))),
        lambda: tensor.dims.append(pick(choose, NUMBERS)),
        lambda: setattr(tensor, "name", pick(choose, ("", "registers", "images"))),
        lambda: model.graph.sparse_initializer.add(),
    )
    pick(choose, changes)()


def _whole(model: onnx.ModelProto, choose: Integer) -> None:
    changes: tuple[Callable[[], Any], ...] = (
        lambda: model.functions.add(name="Add", domain=""),
        lambda: model.training_info.add(),
        lambda: setattr(model, "ir_version", pick(choose, NUMBERS)),
        lambda: model.opset_import.add(domain=pick(choose, ("", "a")), version=choose(0, 30)),
        lambda: model.graph.ClearField(pick(choose, ("node", "input", "output", "initializer"))),
        lambda: model.ClearField(pick(choose, ("graph", "metadata_props", "opset_import"))),
        lambda: model.graph.output.pop(),
    )
    pick(choose, changes)()


MODEL = (_metadata, _metadata, _node, _tensor, _whole)
