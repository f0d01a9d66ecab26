"""Instructions of ARM's 64 bit processors: products of bytes in three forms, and tables of bytes.

Vectors have 128 bits. Longer ones, which the other kernels are written in, are split by the compiler.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from functools import lru_cache

from llvmlite import binding, ir
from numba.core import cgutils
from numba.core.registry import cpu_target

from randhet.fixed_point.kernels.lanes import INT8, INT16, INT32, Lanes

QUARTER = 16
"""Bytes of a vector."""
ARCHITECTURES = "aarch64", "arm64"
SIGNED, UNSIGNED = "sext", "zext"
PROBE = """
target triple = "{triple}"
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
define i32 @probe(<16 x i8> %a, <16 x i8> %b) {{
  %u = {first} <16 x i8> %a to <16 x i32>
  %s = sext <16 x i8> %b to <16 x i32>
  %p = mul <16 x i32> %u, %s
  %r = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %p)
  ret i32 %r
}}
"""
FEATURES = {"i8mm": (UNSIGNED, "usdot"), "dotprod": (SIGNED, "sdot")}
"""By feature: how the first factor is widened, and what a sum of products becomes where the processor has it."""


@lru_cache(maxsize=4)
def has(feature: str) -> bool:
    """Return whether kernels are compiled for an ARM processor with neon, dotprod or i8mm.

    LLVM itself is asked, by the code that it makes of a sum of products: the name of a processor may imply what the
    list of its features leaves out, and an instruction that LLVM does not expect would end the program.
    """
    codegen = cpu_target.target_context.codegen()
    triple, *_ = codegen.magic_tuple()
    if not triple.startswith(ARCHITECTURES):
        return False
    if feature not in FEATURES:
        return feature == "neon"
    first, name = FEATURES[feature]
    module = binding.parse_assembly(PROBE.format(triple=triple, first=first))
    return f"\t{name}\t" in codegen._tm.emit_assembly(module)


def instruction(builder, name, result, *arguments):
    """What an instruction returns, by LLVM's name of it behind llvm.aarch64.neon."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.aarch64.neon.{name}"), arguments)


def dot_signed(builder, sums, values, weights):
    """sums (4 x int32) + the products of four with four signed bytes in every lane: values below 128 only."""
    return instruction(builder, "sdot.v4i32.v16i8", sums.type, sums, values, weights)


def dot_mixed(builder, sums, values, weights):
    """sums (4 x int32) + the products of four unsigned with four signed bytes in every lane."""
    return instruction(builder, "usdot.v4i32.v16i8", sums.type, sums, values, weights)


def products(builder, sums, values, weights):
    """sums (16 x int16) + the products of 16 with 16 signed bytes, one each, modulo 2^16: values below 128 only."""
    # both widened with their signs: a pattern that becomes one instruction for every eight
    first, second = (builder.sext(bytes_, sums.type) for bytes_ in (values, weights))
    return builder.add(sums, builder.mul(first, second))


def added(builder, sums):
    """The four sums of 16 bits that belong to each of four lanes, added in 32 bits."""
    eight, four = ir.VectorType(INT16, 8), ir.VectorType(INT32, 4)
    pairs = [instruction(builder, "saddlp.v4i32.v8i16", four, part) for part in _parts(builder, sums, eight)]
    return instruction(builder, "addp.v4i32", four, *pairs)


def looked_up(builder, table, index):
    """Every byte of `index` (64 of them) looked up in 256 bytes, given as four vectors of 64.

    An instruction looks 16 bytes up in 64. Those that lie beyond leave a byte as it is, so that four of them, each with
    the index less another multiple of 64, cover the table.
    """
    sixteen = ir.VectorType(INT8, QUARTER)
    registers = [_parts(builder, part, sixteen) for part in table]
    done = []
    for part in _parts(builder, index, sixteen):
        byte = instruction(builder, "tbl4.v16i8", sixteen, *registers[0], part)
        for number, quarter in enumerate(registers[1:], 1):
            below = (Lanes(builder, part) - 64 * number).value
            byte = instruction(builder, "tbx4.v16i8", sixteen, byte, *quarter, below)
        done.append(byte)
    return _joined(builder, _joined(builder, *done[:2]), _joined(builder, *done[2:]))


def _parts(builder, vector, kind):
    """A vector in pieces of another type, from its first element on."""
    count, numbers = vector.type.count // kind.count, range(kind.count)
    order = [ir.Constant(ir.VectorType(INT32, kind.count), [n * kind.count + i for i in numbers]) for n in range(count)]
    return [builder.shuffle_vector(vector, vector, of_part) for of_part in order]


def _joined(builder, first, second):
    """The elements of two vectors in one."""
    order = ir.Constant(ir.VectorType(INT32, 2 * first.type.count), list(range(2 * first.type.count)))
    return builder.shuffle_vector(first, second, order)
