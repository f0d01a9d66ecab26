"""Put the results of `randhet bench --out DIR` into a page: `python -m scripts.performance_page PAGE DIR...`.

Everything between the two marks of the page is replaced: a table per run and spike rate, the growth of cost, and the
aims with what was measured. Numbers that a run does not have are left out, never carried over.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randhet.base.errors import RandhetError
from randhet.base.files import replacing

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
CROWDED = 1.5
"""Load per core at the start above which a run is called disturbed, and its processor times go before the clock's."""
Row = Mapping[str, Any]
Content = Mapping[str, Any]


@dataclass(frozen=True)
class Aim:
    """A number of a row, or of two, against its limit."""

    text: str
    value: float
    form: str
    holds: bool


def disturbed(content: Content) -> bool:
    """Whether other work had the processor when the run began."""
    machine = content["machine"]
    return bool(machine["load"] > CROWDED * machine["cores"])


def cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


HEAD = (
    "contender",
    "ms per image",
    "min to max",
    "CPU ms per image",
    "n",
    "x torch eager",
    "x by CPU",
    "images/s",
    "peak MB",
)


def rows_table(rows: Sequence[Row]) -> Iterator[str]:
    """The rows of one spike rate."""
    yield line(HEAD)
    yield line(["---", *["---:"] * (len(HEAD) - 1)])
    for row in rows:
        if row["note"]:
            yield line([row["name"], row["note"], *[""] * (len(HEAD) - 2)])
            continue
        yield line([
            row["name"], cell(row["ms_per_image"], ".1f"), f"{row['ms_min']:.1f} to {row['ms_max']:.1f}",
            cell(row["cpu_ms_per_image"], ".1f"), str(row["repeats"]), cell(row["ratio_to_torch_eager"], ".2f"),
            cell(row["cpu_ratio_to_torch_eager"], ".2f"), cell(row["images_per_second"], ".3g"),
            cell(row["peak_mb"], ".0f"),
        ])  # fmt: skip


def machine_line(machine: Mapping[str, Any]) -> str:
    """When and on what a run was made."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['date'][:10]}, {machine['processor']} ({', '.join(machine['features'])}), "
        f"{machine['cores']} cores, load {machine['load']} when it began. Python {machine['python']}, {versions}."
    )


def tables(content: Content) -> Iterator[str]:
    """A table per spike rate with what it was measured on."""
    machine = content["machine"]
    for rate in dict.fromkeys(row["spike_rate"] for row in content["rows"]):
        rows = [row for row in content["rows"] if row["spike_rate"] == rate]
        first = rows[0]
        yield f"### {100 * rate:g} % of the neurons fire per step, {first['threads']} threads, batch {first['batch']}"
        yield ""
        widths = "-".join(map(str, first["widths"]))
        mean, stem = (100 * first[f"measured_{where}_rate"] for where in ("mean", "stem"))
        yield (
            f"{machine_line(machine)} "
            f"Widths {widths}, T = {first['steps']}; the integers fire at {mean:.1f} %, the stem's at {stem:.1f} %."
        )
        yield ""
        yield from rows_table(rows)
        yield ""


def by_name(content: Content, rate: float) -> dict[str, Row]:
    """Measured rows of a spike rate."""
    return {row["name"]: row for row in content["rows"] if row["spike_rate"] == rate and row["ms_per_image"]}


RATIO_AIMS = {0.1: 10.0, 0.2: 7.0}
MEMORY_AIM, TAU_AIM, ADD_ONLY_AIM = 400.0, 0.05, 4.0


def aims(content: Content) -> Iterator[Aim]:
    """What is aimed at, from the rows that a run has; processor time decides where the run was disturbed."""
    ratio = "cpu_ratio_to_torch_eager" if disturbed(content) else "ratio_to_torch_eager"
    cost = "cpu_cost" if disturbed(content) else "cost"
    ms = "cpu_ms_per_image" if disturbed(content) else "ms_per_image"
    for rate in dict.fromkeys(row["spike_rate"] for row in content["rows"]):
        rows, condition = by_name(content, rate), f"at {100 * rate:g} %"
        engine, add_only = rows.get("engine"), rows.get("add-only")
        if engine and engine[ratio] and rate in RATIO_AIMS:
            limit = RATIO_AIMS[rate]
            yield Aim(
                f"engine at least {limit:g} times faster than torch eager {condition}",
                engine[ratio],
                ".2f",
                engine[ratio] >= limit,
            )
        if engine:
            above = engine["peak_mb"] - engine["interpreter_mb"]
            yield Aim(
                f"engine's peak memory under {MEMORY_AIM:g} MB above the interpreter {condition}",
                above,
                ".0f",
                above < MEMORY_AIM,
            )
        if engine and add_only:
            slower = add_only[ms] / engine[ms]
            yield Aim(
                f"add-only at most {ADD_ONLY_AIM:g} times slower than the engine {condition}",
                slower,
                ".2f",
                slower <= ADD_ONLY_AIM,
            )
    for tau_row in content.get("tau_cost", ()):
        if tau_row["name"] == "engine":
            condition = f"at {100 * tau_row['spike_rate']:g} %"
            yield Aim(
                f"random decay factors at most 5 % more expensive than constant ones {condition}",
                tau_row[cost],
                "+.1%",
                tau_row[cost] <= TAU_AIM,
            )


def aims_table(content: Content) -> Iterator[str]:
    """Aims, what was measured, whether they hold."""
    results = list(aims(content))
    if results:
        measure = "processor time, since other work ran on the machine" if disturbed(content) else "time on the clock"
        yield f"Aims, by {measure}:"
        yield ""
        yield line(("aim", "measured", "holds"))
        yield line(("---", "---:", "---"))
        yield from (line((aim.text, cell(aim.value, aim.form), "yes" if aim.holds else "no")) for aim in results)
        yield ""


def growth(content: Content) -> Iterator[str]:
    """Milliseconds per image at every value of every axis, and the exponent p of cost ~ value^p."""
    names = list(dict.fromkeys(row["name"] for row in content["rows"]))
    powers = {(fit["axis"], fit["name"]): fit["exponent"] for fit in content["growth"]}
    yield "### How cost grows"
    yield ""
    yield machine_line(content["machine"])
    yield ""
    yield line(("changed", "to", *(f"{name}, ms per image" for name in names)))
    yield line(("---", "---:", *["---:"] * len(names)))
    for axis in dict.fromkeys(row["axis"] for row in content["rows"]):
        along = [row for row in content["rows"] if row["axis"] == axis]
        for value in dict.fromkeys(row["value"] for row in along):
            ms_by_name = {row["name"]: row["ms_per_image"] for row in along if row["value"] == value}
            yield line((axis, f"{value:g}", *(cell(ms_by_name.get(name), ".1f") for name in names)))
        yield line((axis, "exponent", *(cell(powers.get((axis, name)), ".2f") for name in names)))
    yield ""


def measured(folder: Path) -> Iterator[str]:
    """All that a folder holds."""
    files = [folder / name for name in ("bench.json", "scaling.json") if (folder / name).exists()]
    if not files:
        raise RandhetError(
            f"{folder} has no bench.json and no scaling.json: write them with randhet bench --out {folder}"
        )
    for file in files:
        content = json.loads(file.read_text())
        if "growth" in content:
            yield from growth(content)
        else:
            yield from tables(content)
            yield from aims_table(content)


def main(page: Path, folders: Sequence[Path]) -> None:
    """Rewrite the part between the marks."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RandhetError(f"{page} has no part between {BEGIN} and {END}")
    body = "\n".join(page_line for folder in folders for page_line in measured(folder))
    with replacing(page) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
