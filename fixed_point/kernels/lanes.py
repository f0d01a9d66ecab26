"""Vectors of integers inside compiled kernels: expressions in Python, traced into LLVM vectors of fixed width.

numba widens every integer sum to 64 bits and its loops hold too many arrays for LLVM to vectorise; here 32 bits stay
32 bits and a loop over lanes is a vector by construction. LLVM splits the vectors to what the processor has.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target

INT8, INT16, INT32, INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


@dataclass(frozen=True, eq=False)
class Lanes:
    """A vector of integers of one width; operators act lane by lane, modulo 2^width, and take plain integers too."""

    builder: Any
    value: Any

    def _same(self, other: Lanes | int) -> Any:
        if isinstance(other, Lanes):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [other] * kind.count)

    def _with(self, operation: str, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, getattr(self.builder, operation)(self.value, self._same(other)))

    def __add__(self, other: Lanes | int) -> Lanes:
        return self._with("add", other)

    def __sub__(self, other: Lanes | int) -> Lanes:
        return self._with("sub", other)

    def __mul__(self, other: Lanes | int) -> Lanes:
        return self._with("mul", other)

    def __and__(self, other: Lanes | int) -> Lanes:
        return self._with("and_", other)

    def __or__(self, other: Lanes | int) -> Lanes:
        return self._with("or_", other)

    def __xor__(self, other: Lanes | int) -> Lanes:
        return self._with("xor", other)

    def __lshift__(self, other: Lanes | int) -> Lanes:
        return self._with("shl", other)

    def __rshift__(self, other: Lanes | int) -> Lanes:
        """Arithmetic: the floor of the quotient by a power of two."""
        return self._with("ashr", other)

    def unsigned_shift(self, other: Lanes | int) -> Lanes:
        """Shift right, zeros from the left."""
        return self._with("lshr", other)

    def compare(self, sign: str, other: Lanes | int) -> Lanes:
        """One bit per lane."""
        return Lanes(self.builder, self.builder.icmp_signed(sign, self.value, self._same(other)))

    def where(self, yes: Lanes | int, no: Lanes) -> Lanes:
        """Lanes of `yes` where this bit vector is set, of `no` elsewhere."""
        return Lanes(self.builder, self.builder.select(self.value, no._same(yes), no.value))

    def clamp(self, low: Lanes | int, high: Lanes | int) -> Lanes:
        raised = self.compare("<", low).where(low, self)
        return raised.compare(">", high).where(high, raised)

    def bits(self) -> Any:
        """A bit vector as one integer, lane 0 lowest."""
        return self.builder.bitcast(self.value, ir.IntType(self.value.type.count))

    def widen(self, kind: ir.IntType, signed: bool = True) -> Lanes:
        extend = self.builder.sext if signed else self.builder.zext
        return Lanes(self.builder, extend(self.value, ir.VectorType(kind, self.value.type.count)))

    def narrow(self, kind: ir.IntType) -> Lanes:
        return Lanes(self.builder, self.builder.trunc(self.value, ir.VectorType(kind, self.value.type.count)))


@dataclass(frozen=True, eq=False)
class Array:
    """An argument of a kernel that is a C-contiguous array; positions count elements from its first."""

    builder: Any
    data: Any

    def at(self, position: Any) -> Any:
        return self.builder.gep(self.data, [position])

    def item(self, position: Any) -> Any:
        return self.builder.load(self.at(position))

    def load(self, position: Any, lanes: int, kind: ir.IntType | None = None) -> Lanes:
        """`lanes` elements from a position, or the same bytes seen as elements of another kind."""
        vector = ir.VectorType(kind or self.data.type.pointee, lanes)
        loaded = self.builder.load(self.builder.bitcast(self.at(position), vector.as_pointer()))
        # a row may begin at any element; an aligned load would end the program there
        loaded.align = 1
        return Lanes(self.builder, loaded)

    def store(self, position: Any, lanes: Lanes) -> None:
        pointer = self.builder.bitcast(self.at(position), lanes.value.type.as_pointer())
        self.builder.store(lanes.value, pointer).align = 1


def broadcast(builder: Any, scalar: Any, lanes: int) -> Lanes:
    """A scalar in every lane."""
    empty = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    first_lane = builder.insert_element(empty, scalar, INT32(0))
    return Lanes(builder, builder.shuffle_vector(first_lane, empty, ir.Constant(ir.VectorType(INT32, lanes), None)))


def has(feature: str) -> bool:
    """Whether kernels are compiled for a processor with this feature, by LLVM's name of it."""
    *_, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")


def instruction(builder: Any, name: str, result: ir.Type, *arguments: Any) -> Any:
    """What an instruction of this processor returns, by LLVM's name of it behind llvm.x86."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def permute(builder: Any, low: Any, index: Any, high: Any) -> Any:
    """Bytes of two vectors of 64 by the low seven bits of each index byte; needs avx512vbmi."""
    return instruction(builder, "avx512.vpermi2var.qi.512", low.type, low, index, high)


def map_bytes(lanes: Lanes, images: list[int]) -> Lanes:
    """Every lane (64 of 8 bits) under a linear map of its bits; needs gfni and avx512bw.

    images: what each bit of the byte, alone, becomes; the image of a byte is the exclusive or of those of its bits.
    """
    kind = lanes.value.type
    # row i of the instruction, in byte 7 - i, has the bits that decide bit i of the image
    rows = [sum((image >> i & 1) << bit for bit, image in enumerate(images)) for i in range(7, -1, -1)]
    matrix = ir.Constant(kind, rows * (kind.count // 8))
    return Lanes(lanes.builder, instruction(lanes.builder, "vgf2p8affineqb.512", kind, lanes.value, matrix, INT8(0)))


def short_products(first: Lanes, second: Lanes) -> Lanes:
    """Products lane by lane, of lanes (32 bits) that 16 bits hold with their signs; the first is not negative."""
    if not has("avx512bw"):
        return first * second
    builder, kind = first.builder, first.value.type
    halves = ir.VectorType(INT16, 2 * kind.count)
    given = (builder.bitcast(lanes.value, halves) for lanes in (first, second))
    # it adds the product of the upper halves, and that of the first is zero
    return Lanes(builder, instruction(builder, "avx512.pmaddw.d.512", kind, *given))


def compress(builder: Any, lanes: Lanes, bits: Any) -> Lanes:
    """The lanes (16 of 32 bits) whose bit is set in a 16 bit number, moved to the front; needs avx512f."""
    kind, mask_type = lanes.value.type, ir.VectorType(ir.IntType(1), lanes.value.type.count)
    chosen, none = builder.bitcast(bits, mask_type), ir.Constant(kind, None)
    name = f"avx512.mask.compress.v{kind.count}i32"
    return Lanes(builder, instruction(builder, name, kind, lanes.value, none, chosen))


def opened(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """An argument as intrinsics read it: an array as Array, a bundle (NamedTuple) field by field, a number as it is."""
    if isinstance(kind, (types.NamedTuple, types.NamedUniTuple)):
        fields = (
            opened(context, builder, field_type, builder.extract_value(value, i))
            for i, field_type in enumerate(kind.types)
        )
        return kind.instance_class(*fields)
    if not isinstance(kind, types.Array):
        return value
    if kind.layout != "C":
        raise TypeError(f"vectors are read from C-contiguous arrays only, not from {kind}")
    return Array(builder, context.make_array(kind)(context, builder, value).data)


def build(result: Any, kinds: tuple[Any, ...], write: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    """What an intrinsic returns: `write(builder, *arguments)` gets its arguments `opened`."""

    def generate(context, builder, signature, arguments):
        given = (opened(context, builder, kind, value) for kind, value in zip(kinds, arguments))
        written = write(builder, *given)
        return context.get_dummy_value() if written is None else written

    return result(*kinds), generate
