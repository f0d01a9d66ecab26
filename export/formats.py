"""What an exported model can be written as besides `.net`: a table of formats, for the command line and the docs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from randhet.export.graph import ExportError
from randhet.export.pipeline import Exported


@dataclass(frozen=True)
class Format:
    """make builds and checks everything in memory, save writes it.

    needs: the packages that both import. float: of the float model, which a network of integers has not.
    """

    about: str
    needs: tuple[str, ...]
    make: Callable[[Exported, Any], Any]
    save: Callable[[Path, Any], None]
    float: bool = False

    def missing(self) -> str | None:
        """Why it cannot be written here, None where it can."""
        absent = [package for package in self.needs if find_spec(package) is None]
        return f"{', '.join(absent)} is not installed: pip install 'randhet[onnx]'" if absent else None


def prepared(exported: Exported, asked: Mapping[str, Path], taus: str = "drawn") -> list[Callable[[], None]]:
    """Build every format that was asked for; what is returned writes them, so that nothing is written if one fails."""
    writers: list[Callable[[], None]] = []
    for name, path in asked.items():
        if reason := FORMATS[name].missing():
            raise ExportError(f"cannot write {path}: {reason}")
        if FORMATS[name].float and not exported.traced.nodes:
            raise ExportError(f"cannot write {path}: {name} is of a float model, and this one has integers only")
        writers.append(_writer(FORMATS[name], path, FORMATS[name].make(exported, taus)))
    return writers


def nir_missing() -> None:
    """ExportError where NIR cannot be read here."""
    if reason := FORMATS["nir"].missing():
        raise ExportError(f"NIR cannot be read here: {reason}")


def _writer(output_format: Format, path: Path, content: Any) -> Callable[[], None]:
    return lambda: output_format.save(path, content)


def _integer(exported: Exported, taus: Any) -> Any:
    from randhet.export.onnx.integer_graph import model

    return model(exported.network)


def _integer_step(exported: Exported, taus: Any) -> Any:
    from randhet.export.onnx.step_graph import model

    return model(exported.network)


def _inference(exported: Exported, taus: Any) -> Any:
    from randhet.export.onnx.float_graph import inference

    return inference(exported.traced, taus=taus, source=exported.network.metadata)


def _step(exported: Exported, taus: Any) -> Any:
    from randhet.export.onnx.float_graph import step

    return step(exported.traced, taus=taus, source=exported.network.metadata)


def _save_onnx(path: Path, model: Any) -> None:
    from randhet.export.onnx.meta import save

    save(path, model)


def _nir(exported: Exported, taus: Any) -> Any:
    from randhet.export.nir.write import to_nir

    return to_nir(exported.traced)


def _save_nir(path: Path, graph: Any) -> None:
    from randhet.export.nir.write import save

    save(path, graph)


def _c(made: Exported, taus: Any) -> Any:
    from randhet.export.c.write import files

    return files(made.network)


def _save_c(path: Path, texts: Any) -> None:
    from randhet.export.c.write import save

    save(path, texts)


FORMATS: dict[str, Format] = {
    "onnx": Format("integer ONNX: the reference's integers in any ONNX runtime", ("onnx",), _integer, _save_onnx),
    "onnx-integer-step": Format(
        "integer ONNX, one step with explicit states, for recordings", ("onnx",), _integer_step, _save_onnx
    ),
    "onnx-float": Format("float ONNX, all T steps in one graph", ("onnx",), _inference, _save_onnx, True),
    "onnx-step": Format("float ONNX, one step with explicit states, for streaming", ("onnx",), _step, _save_onnx, True),
    "c": Format("C99 without multiplication, a folder of files", (), _c, _save_c),
    "nir": Format("NIR graph of the float model for other tools", ("nir",), _nir, _save_nir, True),
}
