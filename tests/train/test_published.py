"""State dicts of the paper's released script, built from their description, against a forward pass written here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from randhet.base.errors import FileError, RandhetError
from randhet.train import checkpoint as checkpoints
from randhet.train.neurons import RandomTauLIF, neurons, replaying
from randhet.train.published import MEAN, STD, Published

ROOT = Path(__file__).parents[2]
State = dict[str, Tensor]


def state_dict(
    random: bool, widths: tuple[int, ...] = (3, 4, 5), blocks: tuple[int, ...] = (3, 3, 2), classes: int = 7
) -> State:
    """Entries by the names of the description: scalars in the neurons, all float32 but the batch counters."""
    generator = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    state: State = {}

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.2 * normal(width), 0.3 * normal(width)
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = 0.2 * normal(width), 0.5 + normal(width).square()
        state[f"{name}.num_batches_tracked"] = torch.tensor(1234)

    def node(name: str) -> None:
        state[f"{name}.threshold"] = torch.tensor(0.5)
        if random:
            state[f"{name}.sigma"] = torch.tensor(0.8 + 0.001 * len(state))
        state[f"{name}.w"] = torch.tensor(0.0)
        state[f"{name}.act_fun.alpha"] = torch.tensor(2.0)

    def conv(name: str, out: int, inside: int, size: int) -> None:
        state[f"{name}.weight"] = normal(out, inside, size, size) * (2 / (inside * size * size)) ** 0.5

    conv("conv1", widths[0], 3, 3), norm("bn1", widths[0]), node("node1")
    before = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks), 1):
        for i in range(count):
            name = f"layer{stage}.{i}"
            for half, inside in (("1", before), ("2", width)):
                (
                    conv(f"{name}.conv{half}", width, inside, 3),
                    norm(f"{name}.bn{half}", width),
                    node(f"{name}.node{half}"),
                )
            if stage > 1 and i == 0:
                conv(f"{name}.downsample.0", width, before, 1), norm(f"{name}.downsample.1", width)
                node(f"{name}.downsample_sn")
            before = width
    state["fc1.weight"], state["fc1.bias"] = normal(classes, before), normal(classes)
    return state


def forward(state: State, images: Tensor, steps: int, tau: Callable[[str, int, Tensor], Tensor]) -> Tensor:
    """The network as the paper describes it, step by step; tau(name, t, current) gives each neuron's decay."""
    membranes: dict[str, Tensor] = {}

    def norm(name: str, x: Tensor) -> Tensor:
        part = [
            state[f"{name}.{entry}"].view(1, -1, 1, 1) for entry in ("running_mean", "running_var", "weight", "bias")
        ]
        return (x - part[0]) / (part[1] + 1e-5).sqrt() * part[2] + part[3]

    def node(name: str, t: int, x: Tensor) -> Tensor:
        decay = tau(name, t, x)
        m = decay * membranes.get(name, torch.zeros_like(x)) + (1 - decay) * x
        spike = (m > state[f"{name}.threshold"]).float()
        membranes[name] = m * (1 - spike)
        return spike

    def block(name: str, t: int, x: Tensor, stride: int) -> Tensor:
        y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = node(f"{name}.node1", t, norm(f"{name}.bn1", y))
        y = node(f"{name}.node2", t, norm(f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], padding=1)))
        if f"{name}.downsample.0.weight" in state:
            x = norm(f"{name}.downsample.1", F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride))
            x = node(f"{name}.downsample_sn", t, x)
        return x + y

    x = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    stem = norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1))
    total = torch.zeros(())
    for t in range(steps):
        y = node("node1", t, stem)
        for stage in (1, 2, 3):
            for i in range(9):
                if f"layer{stage}.{i}.conv1.weight" in state:
                    y = block(f"layer{stage}.{i}", t, y, 2 if stage > 1 and i == 0 else 1)
        total = total + F.linear(y.mean((2, 3)), state["fc1.weight"], state["fc1.bias"])
    return total / steps


def test_the_description_counts_192_entries() -> None:
    assert len(state_dict(random=True)) == 192


def test_a_vanilla_file_gives_the_described_logits(tmp_path: Path) -> None:
    """m += (x - m)/2."""
    state = state_dict(random=False)
    torch.save(state, tmp_path / "vanilla.pt")
    found = checkpoints.load(tmp_path / "vanilla.pt")
    assert found.settings.neuron == "vanilla"
    assert (found.settings.widths, found.settings.blocks, found.settings.classes) == ((3, 4, 5), (3, 3, 2), 7)
    images = torch.rand(2, 3, 8, 8)
    expected = forward(state, images, 8, lambda name, t, x: torch.full_like(x, 0.5))
    with torch.no_grad():
        torch.testing.assert_close(checkpoints.build(found)(images), expected)


@pytest.mark.parametrize(("sampling", "neuron"), [("step", "randhet"), ("forward", "randhet-forward")])
def test_a_random_file_gives_the_described_logits(tmp_path: Path, sampling: str, neuron: str) -> None:
    """Under the same taus, and with the sigma that the file gives each layer."""
    state = state_dict(random=True, blocks=(1, 2, 1))
    torch.save(state, tmp_path / "random.pt")
    found = checkpoints.load(tmp_path / "random.pt", Published(steps=5, sampling=sampling))  # type: ignore[arg-type]
    assert (found.settings.neuron, found.settings.steps, found.settings.blocks) == (neuron, 5, (1, 2, 1))
    model, taus = checkpoints.build(found), {}
    for name, neuron_layer in neurons(model).items():
        assert isinstance(neuron_layer, RandomTauLIF)
        assert neuron_layer.sigma == pytest.approx(float(state[f"{name}.sigma"]))

    def sampler(name: str) -> Callable[[tuple[int, ...]], Tensor]:
        def sample(shape: tuple[int, ...]) -> Tensor:
            taus[name] = torch.rand(shape)
            return taus[name]

        return sample

    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad(), replaying(model, {name: sampler(name) for name in neurons(model)}):
        logits = model(images)
    given = lambda name, t, x: taus[name][t] if sampling == "step" else taus[name]
    torch.testing.assert_close(logits, forward(state, images, 5, given))


def test_thresholds_and_surrogates_are_the_files(tmp_path: Path) -> None:
    state = state_dict(random=False, blocks=(1, 1, 1))
    state["layer2.0.node2.threshold"] = torch.tensor([0.75])
    state["node1.act_fun.alpha"] = torch.tensor(3.0)
    torch.save(state, tmp_path / "odd.pt")
    found = neurons(checkpoints.build(checkpoints.load(tmp_path / "odd.pt")))
    assert [it.threshold for it in found.values()].count(0.75) == 1 and found["layer2.0.node2"].threshold == 0.75
    assert found["node1"].alpha == 3 and found["layer1.0.node1"].alpha == 2


def test_it_exports_and_saves(tmp_path: Path) -> None:
    from randhet.export.pipeline import export_checkpoint

    torch.save(state_dict(random=True, blocks=(1, 1, 1)), tmp_path / "random.pt")
    found = checkpoints.load(tmp_path / "random.pt", Published(steps=2))
    checkpoints.save(tmp_path / "ours.pt", found)
    assert checkpoints.load(tmp_path / "ours.pt").settings == found.settings
    made = export_checkpoint(found, torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8).numpy())
    assert made.network.steps == 2 and made.network.layers[-1].name == "fc1"


def without(entry: str) -> Callable[[State], object]:
    return lambda state: state.pop(entry)


def with_(entry: str, value: Tensor) -> Callable[[State], object]:
    return lambda state: state.update({entry: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("layer2.0.bn2.bias"), r"layer2\.0\.bn2\.bias is missing"),
        (without("layer1.0.node1.sigma"), r"layer1\.0\.node1\.sigma .* one finite number"),
        (without("layer3.0.downsample_sn.threshold"), r"layer3\.0\.downsample_sn\.threshold"),
        (without("layer1.0.conv1.weight"), r"layer1\.0\.conv1\.weight"),
        (with_("extra.weight", torch.zeros(2)), r"extra\.weight of the state dict is not of this network"),
        (with_("layer1.0.conv2.weight", torch.zeros(3, 2, 3, 3)), r"shape \(3, 2, 3, 3\), not \(3, 3, 3, 3\)"),
        (with_("fc1.bias", torch.zeros(7, dtype=torch.float64)), "float64, not float32"),
        (with_("fc1.bias", torch.full((7,), torch.nan)), r"fc1\.bias contain NaN"),
        (with_("node1.threshold", torch.tensor(torch.inf)), r"node1\.threshold .* one finite number"),
        (with_("conv1.weight", torch.zeros(3, 1, 3, 3)), "1 channels"),
        (with_("conv1.weight", torch.zeros(3)), "conv1.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Callable[[State], object], words: str) -> None:
    state = state_dict(random=True, blocks=(1, 1, 1))
    change(state)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(FileError, match=words):
        checkpoints.load(tmp_path / "odd.pt")


def test_wrong_options_are_named() -> None:
    for wrong, words in (
        ({"steps": 0}, "time steps"),
        ({"sampling": "never"}, "sampling 'never'"),
        ({"std": (1.0,)}, "as many means"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
    ):
        with pytest.raises(RandhetError, match=words):
            Published(**wrong)  # type: ignore[arg-type]


def claims(**shapes: tuple[int, ...]) -> Callable[[State], object]:
    """Entries of any shape over a single number; dots of names are written __."""
    return lambda s: s.update({k.replace("__", "."): torch.zeros(1).expand(shape) for k, shape in shapes.items()})


LIES: list[tuple[Callable[[State], object], str]] = [
    (claims(layer1__0__conv1__weight=(2**20, 2**20, 3, 3)), "bytes, the file has"),
    (claims(fc1__weight=(2**40, 5)), "bytes, the file has"),
    (claims(layer1__0__conv1__weight=(2**40, 0, 3, 3)), "width 1099511627776, at most 16384"),
    (claims(layer1__0__conv1__weight=(2**14, 0, 3, 3)), "has shape|is damaged"),
    (claims(fc1__weight=(2**40, 0)), "has shape|is damaged"),
    (lambda s: s.update({f"layer1.{i}.x": torch.zeros(1) for i in range(200)}), "block count 200, at most 100"),
    (lambda s: s.update({"fc1.weight": torch.tensor(1.0)}), "is damaged"),
    (lambda s: s.update({"node1.threshold": torch.empty((), device="meta")}), "not read|damaged"),
]


def test_lying_shapes_are_refused_before_a_model_is_allocated(tmp_path: Path) -> None:
    """Within 300 MB more of address space than a process has before it reads, one process for all files."""
    for i, (change, _) in enumerate(LIES):
        state = state_dict(random=True)
        change(state)
        torch.save(state, tmp_path / f"{i}.pt")
    code = (
        "import resource, sys; from randhet.base.errors import FileError; from train import checkpoint\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    try: print('accepted', checkpoint.load(path).settings)\n"
        "    except FileError as error: print(error)\n"
    )
    paths = [str(tmp_path / f"{i}.pt") for i in range(len(LIES))]
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == len(LIES)
    assert [line for line, (_, words) in zip(said, LIES) if not re.search(words, line)] == []
