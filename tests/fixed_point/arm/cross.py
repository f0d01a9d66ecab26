"""Compile kernels for ARM: a process that reads (module, function, types of the arguments) and answers with programs.

Where there are no types, it answers with the value of that name.

numba makes code for the processor that it runs on. Here its code generator is replaced by one for aarch64 before any
kernel is imported; from there on all is as on such a machine, up to the object file, which a cross compiler links with
`driver.c`. Run as `python cross.py FEATURES FOLDER`.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from llvmlite import binding
from numba.core import caching, codegen, cpu
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

TRIPLE, COMPILER = "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"
OPTIONS = ("-O2", "-static", "-Wl,--gc-sections", "-Wl,--unresolved-symbols=ignore-all")
"""What wrappers for the interpreter would call is not there, and they are not called."""


class Libraries(codegen.AOTCodeLibrary):
    """Code that is kept, not run."""

    def get_pointer_to_function(self, name: str) -> int:
        return 0


class Generator(codegen.JITCPUCodegen):
    """numba's code generator with LLVM's machine for aarch64."""

    _library_class = Libraries

    def __init__(self, features: str) -> None:
        self.features = features
        super().__init__("cross")

    def _init(self, module: Any) -> None:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        self._tm_features = self.features
        target = binding.Target.from_triple(TRIPLE)
        self._tm = target.create_target_machine(
            cpu="generic", features=self.features, opt=3, reloc="pic", codemodel="default"
        )
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)
        self._loopvect, self._opt_level = False, 0

    def _create_empty_module(self, name: str) -> Any:
        module = super()._create_empty_module(name)
        module.triple = TRIPLE
        return module

    def magic_tuple(self) -> tuple[str, str, str]:
        return TRIPLE, "generic", self.features

    def _add_module(self, module: Any) -> None:
        pass

    def set_env(self, name: str, env: Any) -> None:
        pass


def install(features: str) -> None:
    """From here on kernels are compiled for aarch64, kept in memory only."""
    cpu_target.target_context._internal_codegen = Generator(features)
    # numba knows a compiled function by this object: another one each time
    cpu.CPUContext.get_executable = lambda self, library, fndesc, env: [].append
    caching.FunctionCache.load_overload = lambda self, signature, context: None
    caching.FunctionCache.save_overload = lambda self, signature, data: None


def program(module: str, name: str, kinds: tuple[Any, ...], folder: Path) -> tuple[Path, Any]:
    """Compile a kernel for these arguments; returns the program, and the type of what it returns."""
    function = getattr(import_module(module), name)
    function.compile(kinds)
    compiled = function.overloads[kinds]
    target = cpu_target.target_context
    arguments = target.call_conv.get_function_type(compiled.fndesc.restype, compiled.fndesc.argtypes).args[2:]
    # each has a register or eight bytes on the stack, of which a narrower one reads the lowest
    assert all(str(kind)[-1] == "*" or str(kind) in ("i8", "i32", "i64") for kind in arguments), arguments
    start = folder / f"{name}{len(list(folder.glob('*.o')))}"
    with global_compiler_lock:
        start.with_suffix(".o").write_bytes(compiled.library.emit_native_object())
    words = ", ".join(f"a[{i}]" for i in range(len(arguments)))
    start.with_suffix(".h").write_text(
        f"int kernel(void *, void **{', long' * len(arguments)})\n"
        f'    __asm__("{compiled.fndesc.llvm_func_name}");\n'
        f"#define CALL(result, error, a) kernel(result, error, {words})\n"
    )
    driver = Path(__file__).with_name("driver.c")
    command = [COMPILER, *OPTIONS, f'-DCALLED="{start.name}.h"', f"-I{folder}", driver, start.with_suffix(".o")]
    subprocess.run([*command, "-o", start], check=True, capture_output=True, text=True)
    return start, compiled.fndesc.restype


def value(module: str, name: str) -> Any:
    """Return an attribute, of a path of names."""
    return reduce(getattr, name.split("."), import_module(module))


def main() -> None:
    features, folder = sys.argv[1], Path(sys.argv[2])
    # answers go where nothing else is printed
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    install(features)
    while True:
        try:
            module, name, kinds = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = value(module, name) if kinds is None else program(module, name, kinds, folder)
        except subprocess.CalledProcessError as error:
            raise SystemExit(error.stderr) from error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
