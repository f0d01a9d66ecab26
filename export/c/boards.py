"""Processors that the program is built for and run on here, by cross compilers and an emulator.

The program is linked without any library: an operation that a processor lacks would need one, and would not link.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from randhet.export.c.run import Build

BARE = (
    "-O2", "-ffreestanding", "-fno-tree-loop-distribute-patterns", "-ffunction-sections", "-fdata-sections",
    "-nostdlib", "-Wl,--gc-sections",
)  # fmt: skip


@dataclass(frozen=True)
class Board:
    """A processor: how programs are built for it, what disassembles them, Debian's packages of the tools."""

    about: str
    build: Build
    disassembler: str
    packages: tuple[str, ...]

    def missing(self) -> str | None:
        """Why it cannot run here, None where it can."""
        tools = (self.build.compiler[0], self.build.emulator[0], self.disassembler)
        absent = [tool for tool in tools if which(tool) is None]
        return f"{', '.join(absent)} is not installed: apt install {' '.join(self.packages)}" if absent else None


BOARDS: dict[str, Board] = {
    "riscv32i": Board(
        "RISC-V's base instructions, which have no multiplication, in qemu's user mode",
        Build(("riscv64-unknown-elf-gcc", "-march=rv32i", "-mabi=ilp32"), BARE, ("system_riscv.c",), ("qemu-riscv32",)),
        "riscv64-unknown-elf-objdump",
        ("gcc-riscv64-unknown-elf", "qemu-user"),
    ),
    "cortex-m0": Board(
        "code for the Arm Cortex-M0, in qemu's user mode",
        # the user mode of qemu 7.2 starts no M processor; the code is Thumb of version 6, which this one runs too
        Build(
            ("arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb"),
            BARE,
            ("system_arm.c",),
            ("qemu-arm", "-cpu", "arm1176"),
        ),
        "arm-none-eabi-objdump",
        ("gcc-arm-none-eabi", "qemu-user"),
    ),
}

MULTIPLYING = re.compile(
    r"^(mul|div|rem|mla|mls|mad|smul|umul|smla|smml|umla|umaa|sdiv|udiv)|"
    r"^__(mul|div|mod|udiv|umod)[sdt]i\d$|^__aeabi_[a-z]*(mul|div)"
)
"""Instructions and library functions that multiply or divide, of RISC-V and of Arm."""
NAMES = re.compile(r"<(?P<symbol>[^>+]+)>:$|^\s*[0-9a-f]+:\t[0-9a-f ]+\t(?P<instruction>\S+)", re.MULTILINE)


def multiplications(board: Board, program: Path) -> list[str]:
    """Return every instruction and function of the linked program that multiplies, divides or takes a remainder."""
    text = subprocess.run([board.disassembler, "-d", program], capture_output=True, check=True, text=True).stdout
    return [name for name in names(text) if MULTIPLYING.search(name)]


def names(disassembly: str) -> Iterator[str]:
    """Instructions and symbols of a disassembly."""
    for found in NAMES.finditer(disassembly):
        yield str(found["symbol"] or found["instruction"])


def sizes(program: Path, size: str) -> dict[str, int]:
    """Return the bytes of code with constants, and of memory that is written, of a linked program."""
    text = subprocess.run([size, program], capture_output=True, check=True, text=True).stdout.splitlines()[1]
    code, data, bss = map(int, text.split()[:3])
    return {"flash": code + data, "ram": data + bss}
