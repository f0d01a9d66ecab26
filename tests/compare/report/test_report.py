"""The report: what it shows is right by brute force, and a real browser shows it without complaint at every width."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import integrate

from randhet.base.split import Split
from randhet.cli.commands.compare import examined
from randhet.compare.accuracy import Draws
from randhet.compare.report import evidence as report_evidence
from randhet.compare.report import words
from randhet.compare.report.figures import density
from randhet.compare.report.page import Report, pictures, render, write
from randhet.compare.report.picture import PALETTE
from randhet.compare.robustness.deployed import AttackSettings, attack_deployed
from randhet.compare.study import StudySettings, compare
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import reference
from randhet.fixed_point.backends import runner
from randhet.fixed_point.chips import beside_ann
from randhet.fixed_point.generator import core_seed, draw
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.data.sources import Images
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 3, (6, 6), (3, 4), (1, 1), steps=3)
PIXELS = np.random.default_rng(1).integers(0, 256, (8, 1, 6, 6), np.uint8)
IMAGES = Images("noise", PIXELS, np.arange(8) % 3, ("a", "b", "c"))
SECTIONS = ("accuracy", "backends", "layers", "divergence", "budget", "randomness", "cost", "robustness", "settings")
BESIDE = ["taus", "raster", "variability", "operations", "energy", "budget", "robustness"]
FIGURES = ["accuracy", "odd-spikes", "membrane-error", *BESIDE]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def silent(name: str, total: int) -> Any:
    return lambda count: None


def made(neuron: str = "randhet") -> tuple[Checkpoint, Network]:
    checkpoint = random_init(replace(MODEL, neuron=neuron), seed=2)
    return checkpoint, export_checkpoint(checkpoint, PIXELS).network


@pytest.fixture(scope="module")
def report() -> Report:
    checkpoint, network = made()
    found = compare(checkpoint, network, IMAGES, StudySettings(draws=3, backends=("engine",)), silent)
    attack = AttackSettings("fgsm", eps=16 / 255, draws=2, redraws=2), Split(threads=1)
    return examined(found, checkpoint, network, IMAGES, silent, budget=True, attack=attack)


# --- evidence -------------------------------------------------------------------------------------------------------


def test_taus_are_the_draws_of_the_first_random_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = made()
    monkeypatch.setattr(report_evidence, "DRAWN", 1000)
    found = report_evidence.taus(network, seed=5)
    drawn = network.layers[1].drawn
    assert found is not None and drawn is not None
    state, expected = core_seed(5, 1, 0), np.zeros(256, np.int64)
    for _ in range(found.drawn):
        state, value = draw(state)
        expected[drawn.table[value]] += 1
    assert (found.layer, found.k, found.sigma) == ("node1", 8, 1.0)
    assert np.array_equal(found.counts, expected)
    assert found.mean == pytest.approx((np.arange(256) * expected).sum() / expected.sum() / 256)
    assert report_evidence.taus(made("vanilla")[1], seed=5) is None


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_density_is_that_of_a_logit_normal(sigma: float) -> None:
    tau, p = density(sigma)
    assert integrate.trapezoid(p, tau) == pytest.approx(1, abs=0.01)
    at_half = 4 / (np.sqrt(2 * np.pi) * sigma)
    assert np.interp(0.5, tau, p) == pytest.approx(at_half, rel=1e-3)


def test_trials_are_the_image_at_consecutive_places(monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = made()
    monkeypatch.setattr(report_evidence, "KEPT", 10**6)
    found = report_evidence.trials(network, PIXELS, IMAGES.labels, seed=5)
    assert set(found.spikes) == {layer.name for layer in network.layers if layer.drawn}
    for trial in (0, 3):
        one = reference.run(network, PIXELS[:1], seed=5, first_image=trial, probes=list(found.spikes))
        assert found.predictions[trial] == one.predictions[0]
        for name, spikes in found.spikes.items():
            sent = one.traces[name].output[0].reshape(MODEL.steps, -1)
            assert np.array_equal(found.counts[name][trial], sent.sum(axis=0))
            assert np.array_equal(spikes[trial], sent)


def test_of_large_layers_some_neurons_that_spike_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _, network = made()
    monkeypatch.setattr(report_evidence, "KEPT", 10**6)
    whole = report_evidence.trials(network, PIXELS, IMAGES.labels, seed=5)
    monkeypatch.setattr(report_evidence, "KEPT", 5)
    found = report_evidence.trials(network, PIXELS, IMAGES.labels, seed=5)
    for name, counts in whole.counts.items():
        active = np.flatnonzero(counts[0])
        chosen = active[np.linspace(0, len(active) - 1, 5).astype(int)]
        assert np.array_equal(found.spikes[name], whole.spikes[name][..., chosen])
        assert np.array_equal(found.counts[name], counts)


def test_one_layer_at_a_time_gives_the_same_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording whose traces do not fit in memory."""
    _, network = made()
    whole = report_evidence.gather(network, PIXELS[:1], IMAGES.labels, seed=5)
    monkeypatch.setattr("randhet.compare.equality.tracing.TRACE_BYTES", 1)
    one_by_one = report_evidence.gather(network, PIXELS[:1], IMAGES.labels, seed=5)
    assert one_by_one.energy == whole.energy
    assert one_by_one.operations == whole.operations
    for name, spikes in whole.trials.spikes.items():
        assert np.array_equal(spikes, one_by_one.trials.spikes[name])


def test_fano_factor_by_hand() -> None:
    spikes = np.zeros((4, 2, 3), bool)
    spikes[0, :, 0] = spikes[1, 0, 0] = True  # counts 2, 1, 0, 0: mean 3/4, variance 11/12
    spikes[:, 0, 1] = True  # always 1: variance 0; the third neuron never spikes and says nothing
    found = report_evidence.Trials(0, 0, {}, {"a": spikes.sum(1), "b": spikes[..., 2:].sum(1)}, np.zeros(4, np.int64))
    assert found.fano("a") == pytest.approx((11 / 12) / (3 / 4) / 2)
    assert found.fano("b") is None


def test_draws_and_dense_operations_are_counted_by_image(report: Report) -> None:
    assert report.evidence is not None
    rows = {row.layer: row for row in report.evidence.operations}
    assert rows["node1"].draws == 3 * 36 * MODEL.steps
    assert rows["layer1.0.node1"].dense_macs == pytest.approx(3 * 3 * 16 * 16 * MODEL.steps), (
        "3x3 taps inside 6x6: 16^2"
    )
    assert rows["fc1"].draws == 0
    assert all(row.additions > 0 for row in rows.values())
    assert set(report.estimates) == set(report.evidence.energy), "both chips have figures for every event"


# --- the page -------------------------------------------------------------------------------------------------------


def test_energy_beside_an_ann_stands_in_the_page_and_in_json(report: Report) -> None:
    assert report.evidence is not None
    content, found = report.as_dict(), report.evidence.synaptic
    orders = content["beside_ann"]["orders"]
    rows, page = words.beside(found), render(report)
    assert [row[0] for row in rows] == list(orders)
    for _, snn, ann, _, less in rows:
        assert f"<td>{snn}</td><td>{ann}</td>" in page
        assert less in ("this network", "the ANN")
    for (order, snn, *_, less), energies in zip(rows, orders.values()):
        assert snn == f"{1e6 * energies['snn_joule']:.3g} µJ", order
        assert (less == "this network") == (energies["snn_joule"] < energies["ann_joule"])
    assert content["beside_ann"]["spike_rate"] == pytest.approx(found.spikes / (found.neurons * MODEL.steps))
    assert content["neurobench"]["activation_sparsity"] == pytest.approx(1 - content["beside_ann"]["spike_rate"])


@pytest.mark.parametrize(
    ("energies", "rate", "less"),
    [
        (beside_ann.Energies("by event", 10.0, 4.0, 2.0, 0.05), "10.0 %", "this network"),
        (beside_ann.Energies("by event", 10.0, 4.0, 11.0, 0.05), "none", "the ANN"),
        (beside_ann.Energies("by event", 10.0, 0.0, 2.0, 0.0), "any", "this network"),
        (beside_ann.Energies("by event", 10.0, 0.1, 2.0, 0.05), "any", "this network"),
    ],
)
def test_the_break_even_rate_in_words(energies: beside_ann.Energies, rate: str, less: str) -> None:
    assert words._beside(energies)[3:] == (rate, less)


def test_every_figure_is_whole_and_says_what_it_shows(report: Report) -> None:
    found = {picture.name: picture for picture in pictures(report)}
    assert list(found) == FIGURES
    for name, picture in found.items():
        root = ElementTree.fromstring(picture.svg)
        assert root.get("role") == "img"
        assert len(root.get("aria-label", "")) > 30
        assert picture.caption.endswith(".")
        names = [element.get("id", name) for element in root.iter()]
        assert all(one.startswith(name) for one in names), "ids must not meet those of another figure"
        targets = re.findall(r'(?:url\(#|href="#)([^)"]+)', picture.svg)
        assert set(targets) <= set(names)
        assert not any(colour in picture.svg for colour in PALETTE.values()), "colours come from the page"


def test_sections_stand_in_order_and_nothing_points_outside(report: Report, tmp_path: Path) -> None:
    write(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text()
    places = [page.index(f'id="sec-{name}"') for name in SECTIONS]
    assert places == sorted(places)
    assert page.index(words.headline(report.found)) < places[0]
    assert not re.search(r"https?:|src=|@import|<script", page)
    assert page.count("<h1") == 1
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_a_comparison_alone_makes_a_page(report: Report) -> None:
    page = render(Report(report.found))
    assert "sec-budget" not in page and "sec-robustness" not in page and "sec-cost" not in page
    checkpoint, network = made("vanilla")
    still = compare(checkpoint, network, IMAGES, StudySettings(draws=3, backends=()), silent)
    evidence = report_evidence.gather(network, PIXELS, IMAGES.labels)
    assert "No layer of this network draws" in render(Report(still, evidence))
    assert "none, the network is deterministic" in render(Report(still)) and "unknown" not in render(Report(still))
    settings = AttackSettings("fgsm", draws=1)
    robust = attack_deployed(network, build(checkpoint), IMAGES, settings, runner("engine", threads=1))
    assert "no seed to keep secret" in render(Report(still, robustness=robust))


def test_a_network_without_chance_has_no_interval_over_draws(report: Report) -> None:
    """One number each, an interval over images alone; 3 of 8 right is 13.5 to 69.6 % by Agresti and Coull's."""
    still = replace(report.found, chance=False, floats=one_draw(3), fixed=one_draw(8))
    page = render(Report(still))
    cells = lambda name: re.findall(r"<td>(.*?)</td>", page.split(f'<tr><th scope="row">{name}</th>')[1])[:5]
    assert cells("float") == ["37.5 %", "–", "13.5 % to 69.6 %", "–", "deterministic"]
    assert cells("fixed point") == ["100.0 %", "–", "62.8 % to 100.0 %", "–", "deterministic"]
    assert "none, the network is deterministic" in page
    for wrong in ("unknown", "one run", "one repetition", "seeds from", "Monte-Carlo", "every repetition"):
        assert wrong not in page, wrong
    alone = render(Report(replace(still, chance=True)))
    assert "unknown" in alone and "one repetition" in alone, "of a single repetition the spread is not known"


def one_draw(right: int) -> Draws:
    return Draws(np.array([[0] * right + [1] * (8 - right)]), np.zeros(8, np.int64))


def variables() -> Iterator[dict[str, str]]:
    """The colours of the style sheet: light ones, and light ones with the dark over them."""
    text = files("randhet.compare.report").joinpath("report_style.html").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", text, re.S)
    )
    yield light
    yield light | dark


def luminance(colour: str) -> float:
    """Of sRGB, W3C WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_is_enough_for_small_print(theme: int) -> None:
    colours = list(variables())[theme]
    assert set(PALETTE) <= set(colours)
    for ink in ("ink", "muted", "float", "fixed", "good", "bad"):
        for ground in ("page", "card"):
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {ground}"


def test_light_colours_are_those_of_the_figures() -> None:
    assert {name: next(variables())[name] for name in PALETTE} == PALETTE


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with playwright.sync_playwright() as it:
        running = it.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def place(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write(path, report)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(browser: Any, place: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(place.as_uri())
    assert said == []
    assert asked == [place.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = {name: page.locator(f"#{name} svg").bounding_box() for name in FIGURES}
    for name, box in boxes.items():
        assert box is not None, name
        assert min(box["width"], box["height"]) > 150, name
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, name
    letters = "[...document.querySelectorAll('figure svg text')].map(it => it.getBoundingClientRect().height)"
    assert min(page.evaluate(letters)) >= 9, "letters of figures can be read"
    ground, ink = (page.evaluate(f"getComputedStyle(document.body).{of}") for of in ("backgroundColor", "color"))
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ground, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    page.close()


SIDEWAYS = """[...document.querySelectorAll('body, body :not(svg *)')]
  .filter(it => it.clientWidth > 0 && it.scrollWidth > it.clientWidth)
  .map(it => `${it.tagName} ${it.id} ${it.ariaLabel}: ${it.scrollWidth} in ${it.clientWidth}`)"""


@pytest.mark.parametrize("width", [900, 1100, 1280])
def test_nothing_scrolls_sideways_on_a_wide_screen(browser: Any, place: Path, width: int) -> None:
    """Every table is seen whole."""
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(place.as_uri())
    assert page.evaluate(SIDEWAYS) == []
    page.close()


def test_figures_have_ink_on_the_screen(browser: Any, place: Path, tmp_path: Path) -> None:
    from PIL import Image

    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(place.as_uri())
    for name in FIGURES:
        page.locator(f"#{name} svg").screenshot(path=tmp_path / f"{name}.png")
        pixels = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        assert 0.005 < (pixels < 200).mean() < 0.98, name
    page.close()


def test_the_page_prints_in_light_colours(browser: Any, place: Path, tmp_path: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(place.as_uri())
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).getPropertyValue('--ink')").strip() == PALETTE["ink"]
    assert page.locator("nav").is_hidden()
    page.close()
