"""Typed, bounded access to the entries of a file; whatever is not what belongs there is a FileError that names it."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from randhet.base.errors import FileError
from randhet.base.hdf5 import readable, text_of_attribute
from randhet.fixed_point.layers import Pair

MAX_LAYERS = 4096
MAX_VALUES = 2**28
"""Largest number of entries of one dataset, 268 million."""


class Node:
    """A group of the file with typed, bounded access; every failure is a FileError that names the entry."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def fail(self, key: str, fault: str) -> FileError:
        """The error that says what is wrong with an entry."""
        return FileError(f"{Path(self.group.file.filename).name}: {self.group.name.rstrip('/')}/{key} {fault}")

    def has(self, key: str) -> bool:
        """Whether there is such an entry."""
        return key in self.group

    def _dataset(self, key: str) -> h5py.Dataset:
        dataset = self.group.get(key)  # that it is no link and has its data here is what `verify` has seen to
        if dataset is None:
            raise self.fail(key, "is missing")
        if not isinstance(dataset, h5py.Dataset):
            raise self.fail(key, "is not a dataset")
        if prod(dataset.shape) > MAX_VALUES:
            raise self.fail(key, f"has {prod(dataset.shape)} entries, the limit is {MAX_VALUES}")
        return dataset

    def array(self, key: str, kinds: str = "iu", axes: tuple[int, ...] = (1,)) -> np.ndarray:
        """An array of one of the dtype kinds and one of the numbers of axes; floats must be finite."""
        dataset = self._dataset(key)
        if dataset.dtype.kind not in kinds or len(dataset.shape) not in axes:
            raise self.fail(key, f"is {dataset.dtype} of shape {dataset.shape}, which is not what belongs there")
        value = np.asarray(dataset[()])
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise self.fail(key, "contains NaN or infinity")
        return value

    def integer(self, key: str) -> int:
        """One whole number, as a scalar or as an array of one."""
        value = self.array(key, "iub", (0, 1)).reshape(-1)
        if len(value) != 1:
            raise self.fail(key, f"has {len(value)} entries instead of one")
        return int(value[0])

    def number(self, key: str) -> float:
        """One finite real number."""
        return float(self.array(key, "iuf", (0,)))

    def text(self, key: str) -> str:
        """One string of at most 1000 bytes."""
        value = self.array(key, "SO", (0, 1)).reshape(-1)
        if len(value) != 1 or not isinstance(value[0], bytes) or len(value[0]) > 1000:
            raise self.fail(key, "is not one short string")
        return bytes(value[0]).decode("utf-8", "replace")

    def pair(self, key: str) -> Pair:
        """Two whole numbers (y, x); one number stands for both."""
        value = self.array(key, "iu", (0, 1)).reshape(-1)
        if len(value) not in (1, 2):
            raise self.fail(key, f"has {len(value)} entries instead of two")
        return int(value[0]), int(value[-1])

    def attribute(self, key: str, kind: type, default: Any = None) -> Any:
        """An attribute of the given Python kind, or the default where it is absent."""
        if key in self.group.attrs:
            stored = self.group.attrs.get_id(key)
            if stored.shape != () or not readable(stored.dtype):
                raise self.fail(key, f"is {stored.dtype} of shape {stored.shape}, it must be one value")
            if stored.dtype.kind == "O":
                self._short(key)
        value = self.group.attrs.get(key, default)
        value = value.item() if isinstance(value, np.generic) else value
        if not isinstance(value, kind):
            raise self.fail(key, f"is {type(value).__name__}, it must be {kind.__name__}")
        return value

    def _short(self, key: str) -> None:
        """FileError where a text says it is longer than the file, which HDF5 would allocate."""
        path = Path(self.group.file.filename)
        length, size = text_of_attribute(path, key), path.stat().st_size
        if length > size:
            raise self.fail(key, f"is a text of {length} bytes, the file has {size}")

    def table(self, key: str, kind: type) -> Any:
        """A JSON attribute of the given Python kind."""
        try:
            value = json.loads(self.attribute(key, str))
        except ValueError:
            raise self.fail(key, "is not JSON") from None
        if not isinstance(value, kind):
            raise self.fail(key, f"is not a {kind.__name__}")
        return value


def layer_groups(root: Node) -> list[Node]:
    """layer/0, layer/1, ... of a file."""
    groups = root.group.get("layer")
    if not isinstance(groups, h5py.Group) or not 0 < len(groups) <= MAX_LAYERS:
        raise root.fail("layer", f"must hold 1 to {MAX_LAYERS} layers")
    return [group(Node(groups), str(i)) for i in range(len(groups))]


def group(parent: Node, key: str) -> Node:
    """A group inside this one; FileError where it is missing or something else."""
    child = parent.group.get(key)
    if not isinstance(child, h5py.Group):
        raise parent.fail(key, "is missing or not a group")
    return Node(child)


BIAS_EXPONENTS = (0, 6)
"""By how much a layer's bias may be shifted in the file: stock NetX shifts its mantissas left by 6."""


def bias(layer: Node, exponent: int) -> np.ndarray:
    """The bias of a layer, per channel or per neuron, in the neuron's units: the file's, shifted left by exponent."""
    if exponent not in BIAS_EXPONENTS:
        raise layer.fail("neuron/bias_exp", f"is {exponent}, it must be 0 or 6")
    mantissa = layer.array("bias", axes=(1, 3))
    low, high = int(mantissa.min(initial=0)), int(mantissa.max(initial=0))
    if low < -(2**31) or high >= 2**31:
        raise layer.fail("bias", f"lies in {low}..{high}, the limits are -2^31 to 2^31 - 1")
    return mantissa.astype(np.int64) << exponent
