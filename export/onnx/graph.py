"""A small builder of ONNX graphs: operators are called like functions, constants become shared initialisers.

Nothing of the network is known here. Source of the operators' semantics: the ONNX operator specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
"""The first opset with BitwiseAnd and BitwiseXor, which the shift register needs; older ones cannot say it."""
IR_VERSION = 8
"""The file version that opset 18 came with (ONNX 1.13), so that every runtime which knows the operators reads it."""

Value = str | np.ndarray | np.generic
Shape = Sequence[int | str | None]


class Scope:
    """Nodes of one graph. A Scan's body is a scope too; it sees the names and the initialisers of the outer one."""

    def __init__(self, outer: Scope | None = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.root: Scope = outer.root if outer else self
        self._constants: dict[tuple[Any, ...], str] = {}
        self.initialisers: list[onnx.TensorProto] = []
        self._count = 0

    def fresh(self, stem: str) -> str:
        """A name nobody else in the model has."""
        self.root._count += 1
        return f"{stem}_{self.root._count}"

    def constant(self, value: np.ndarray | np.generic, name: str | None = None) -> str:
        """Name of an initialiser with this value; equal values share one unless a name is asked for."""
        array = np.asarray(value)
        key = (name, array.dtype.str, array.shape, sha256(array.tobytes()).digest())
        root = self.root
        if key not in root._constants:
            root._constants[key] = name or self.fresh("constant")
            root.initialisers.append(numpy_helper.from_array(array, root._constants[key]))
        return root._constants[key]

    def many(self, kind: str, inputs: Sequence[Value], outputs: Sequence[str], **attributes: Any) -> list[str]:
        """Add a node with these output names; it is named as the first of them, since some runtimes want names."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, list(outputs), name=outputs[0], **attributes))
        return list(outputs)

    def op(self, kind: str, *inputs: Value, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output and return the output's name. Arrays among the inputs become initialisers."""
        return self.many(kind, inputs, [name or self.fresh(kind.lower())], **attributes)[0]

    def cast(self, value: Value, kind: type[np.generic], name: str | None = None) -> str:
        """Cast to a NumPy type."""
        return self.op("Cast", value, name=name, to=element(kind))

    def reshape(self, value: Value, *shape: int, name: str | None = None) -> str:
        """Reshape; -1 for the batch."""
        return self.op("Reshape", value, np.array(shape, np.int64), name=name)

    def slice(self, value: Value, start: int, stop: int, axis: int, step: int = 1) -> str:
        """value[..., start:stop:step] along an axis."""
        numbers = (start, stop, axis) if step == 1 else (start, stop, axis, step)
        return self.op("Slice", value, *(np.array([number], np.int64) for number in numbers))

    def input(self, name: str, kind: type[np.generic], shape: Shape | None = None) -> str:
        """Declare an input of this graph."""
        self.inputs.append(helper.make_tensor_value_info(name, element(kind), shape))
        return name

    def output(self, name: str, kind: type[np.generic], shape: Shape | None = None) -> str:
        """Declare an existing value as an output of this graph."""
        self.outputs.append(helper.make_tensor_value_info(name, element(kind), shape))
        return name

    def graph(self, name: str) -> onnx.GraphProto:
        """The graph so far, without the initialisers."""
        return helper.make_graph(self.nodes, name, self.inputs, self.outputs)

    def scan(self, body: Scope, name: str, states: Sequence[str], sequences: Sequence[str]) -> list[str]:
        """Run `body` along axis 0 of `sequences`, carrying `states`; returns final states, then stacked outputs."""
        outputs = [self.fresh(name) for _ in body.outputs]
        return self.many("Scan", [*states, *sequences], outputs, body=body.graph(name), num_scan_inputs=len(sequences))

    def model(self, name: str, metadata: dict[str, str], description: str = "") -> onnx.ModelProto:
        """The finished model with its metadata. Initialisers come last: protobuf copies nothing above 2 GB."""
        model = helper.make_model(
            self.graph(name),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="randhet",
            doc_string=description,
        )
        helper.set_model_props(model, metadata)
        for tensor in self.initialisers:
            model.graph.initializer.add().CopyFrom(tensor)
        return model


def element(kind: type[np.generic]) -> int:
    """The ONNX element type of a NumPy type."""
    return TensorProto.BOOL if kind is np.bool_ else helper.np_dtype_to_tensor_dtype(np.dtype(kind))
