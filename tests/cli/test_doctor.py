"""randhet doctor: what is here, what is missing, and that it starts on systems that lack much."""

from __future__ import annotations

import sys
from importlib.metadata import version
from types import ModuleType

import pytest
from command_line import call, parsed

from randhet.cli.commands import doctor
from randhet.fixed_point.backends import BACKENDS


def test_versions_and_backends_are_those_of_this_environment() -> None:
    found = parsed(call("doctor", "--json"))
    assert found["required"]["torch"] == version("torch") and found["required"]["numpy"] == version("numpy")
    assert found["backends"].keys() == BACKENDS.keys()
    assert found["backends"]["reference"] is None
    assert found["python"] == sys.version.split()[0]
    assert {part["name"] for part in found["parts"]} >= {"Lava", "ONNX", "NIR", "Dask", "torchvision"}
    assert all(part["adds"] and part["get"] for part in found["parts"])


def test_what_is_missing_stands_with_what_it_adds_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("randhet.lava_runtime.available.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("randhet.base.triton.installed", lambda: None)
    said = " ".join(call("doctor").stdout.split())
    for part in doctor.parts():
        assert part.name in said and part.get in said
    assert "--ignore-requires-python --no-deps lava-nc==0.10.0" in said


def test_a_part_that_does_not_fit_is_told_apart_from_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision made for another torch fails at import with a RuntimeError."""

    class Broken(ModuleType):
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(sys, "meta_path", [Broken("broken"), *sys.meta_path])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    parts = {part.name: part for part in doctor.parts()}
    reason = "installed, but its import fails: RuntimeError: operator torchvision::nms does not exist"
    assert parts["torchvision"].probe() == reason


@pytest.mark.parametrize("module", ["fcntl", "resource"])
def test_it_starts_where_a_system_lacks_a_module(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows does; loaded anew, since the modules that could import them are loaded here."""
    monkeypatch.setitem(sys.modules, module, None)
    for name in [name for name in sys.modules if name.startswith(("randhet.base.parallel", "randhet.benchmarks"))]:
        monkeypatch.delitem(sys.modules, name)
    assert call("doctor", "--json").exit_code == 0
    assert call("bench", "--help").exit_code == 0
    assert call("attack", "--help").exit_code == 0
