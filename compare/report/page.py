"""The report: one self-contained HTML file, the verdict first."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from randhet.base.files import replacing
from randhet.compare.report import words
from randhet.compare.report.evidence import Evidence
from randhet.compare.study import Comparison
from randhet.fixed_point.chips import beside_ann
from randhet.fixed_point.chips.energy import ASSUMPTIONS, Estimate

if TYPE_CHECKING:
    from randhet.compare.quantisation.budget import Budget
    from randhet.compare.quantisation.recommend import Recommendation
    from randhet.compare.report.picture import Picture
    from randhet.compare.robustness.deployed import Deployment

PACKAGES = ("randhet", "numpy", "numba", "torch", "lava-nc", "onnxruntime", "matplotlib")


@dataclass(frozen=True, eq=False)
class Report:
    """What the page shows: the comparison and further measurements. notes: settings in words, by name."""

    found: Comparison
    evidence: Evidence | None = None
    budget: Budget | None = None
    recommendation: Recommendation | None = None
    robustness: Deployment | None = None
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Chips whose energy can be estimated."""
        energy = self.evidence.energy if self.evidence else {}
        return {name: estimate for name, estimate in energy.items() if isinstance(estimate, Estimate)}

    def write(self, path: str | Path) -> None:
        """Write the page, one HTML file, whole or not at all."""
        write(Path(path), self)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `randhet compare`."""
        content = words.as_dict(self.found)
        if self.robustness is not None:
            content["robustness"] = words.robustness_dict(self.robustness)
        if self.estimates:
            content["energy_joules"] = {name: estimate.energy for name, estimate in self.estimates.items()}
        if self.evidence is not None:
            content["neurobench"] = self.evidence.neurobench
            content["beside_ann"] = beside_ann.as_json(self.evidence.synaptic)
        return content


def versions() -> dict[str, str]:
    """Versions of the packages and the system that the comparison ran on."""
    installed = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def pictures(report: Report) -> Iterator[Picture]:
    """Every figure that the report has data for."""
    from randhet.compare.report import figures

    yield figures.accuracy(report.found)
    yield from figures.heat_maps(report.found.layers)
    if report.evidence is not None:
        if report.evidence.taus is not None:
            yield figures.taus(report.evidence.taus)
        if report.evidence.recording is not None:
            yield figures.recording(report.evidence.recording)
        yield figures.raster(report.evidence.trials)
        yield figures.variability(report.evidence.trials)
        yield figures.operations(report.evidence.operations)
    if report.estimates:
        yield figures.energy(report.estimates)
    if report.budget is not None:
        yield figures.budget(report.budget)
    if report.robustness is not None:
        yield figures.robustness(report.robustness)


def render(report: Report) -> str:
    """The page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from randhet.compare.report.picture import PALETTE

    environment = Environment(
        loader=PackageLoader("randhet.compare.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"percent": words.percent, "points": words.points, "decibels": words.decibels, "amount": words.amount}
    environment.filters |= filters
    return environment.get_template("report.html").render(
        report=report,
        comparison=report.found,
        figures={picture.name: picture for picture in pictures(report)},
        words=words,
        palette=PALETTE,
        style=files("randhet.compare.report").joinpath("report_style.html").read_text("utf-8"),
        assumptions=ASSUMPTIONS,
        taken_for_granted=beside_ann.TAKEN_FOR_GRANTED,
        versions=versions(),
    )


def write(path: Path, report: Report) -> None:
    """Write the page, whole or not at all."""
    text = render(report)
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def write_json(path: Path, report: Report) -> None:
    """Write the JSON object of `randhet compare`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report.as_dict(), indent=1) + "\n", "utf-8")
