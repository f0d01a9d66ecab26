"""Networks of snnTorch as their authors write them: read, beside the library itself, and in integers."""

# ruff: noqa: E402  (what needs snnTorch is imported after it is known to be there)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

snn = pytest.importorskip("snntorch")

from snntorch import utils

from randhet.base.errors import RandhetError
from randhet.export.graph import ExportError
from randhet.export.pipeline import export_model
from randhet.export.readers.read import read
from randhet.export.trace import timed
from randhet.fixed_point import engine, reference
from randhet.train.neurons import recording

SHAPE = (1, 6, 6)
STEPS = 7
IMAGES = np.random.default_rng(5).integers(0, 256, (24, *SHAPE), dtype=np.uint8)
NEURONS: dict[str, Callable[[], nn.Module]] = {
    "defaults": lambda: snn.Leaky(beta=0.9),
    "learned": lambda: snn.Leaky(beta=torch.tensor(0.7), learn_beta=True, threshold=0.6, learn_threshold=True),
    "beta of each channel": lambda: snn.Leaky(beta=torch.linspace(0.1, 0.9, 4).view(4, 1, 1), threshold=0.5),
    "beta above 1": lambda: snn.Leaky(beta=torch.tensor([0.4, 0.5, 0.6, 0.3]).view(4, 1, 1), reset_mechanism="zero"),
    "zero": lambda: snn.Leaky(beta=0.8, threshold=0.4, reset_mechanism="zero"),
    "zero at once": lambda: snn.Leaky(beta=0.8, threshold=0.4, reset_mechanism="zero", reset_delay=False),
    "no decay of the past": lambda: snn.Leaky(beta=0.0, threshold=0.3),
    "integrating": lambda: snn.Leaky(beta=1.0, threshold=1.5, reset_mechanism="zero"),
    "lapicque": lambda: snn.Lapicque(R=2.0, C=3.0, time_step=1, threshold=0.5),
    "lapicque to zero": lambda: snn.Lapicque(beta=0.8, threshold=0.2, reset_mechanism="zero"),
}


class Loop(nn.Module):
    """The shape of snnTorch's tutorials: states made in the forward, a loop over the steps, spikes and potentials."""

    def __init__(self, neuron: Callable[[], nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.lif1 = neuron()
        self.fc2 = nn.Linear(144, 5)
        self.lif2 = snn.Leaky(beta=0.85, threshold=0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mem1 = self.lif1.reset_mem()
        mem2 = self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.conv1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1.flatten(1)), mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


def live(model: nn.Module, name: str, pixels: Tensor) -> Tensor:
    """Spikes (T, N, ...) of a neuron of the model itself."""
    heard: list[Tensor] = []
    keep: Any = lambda module, given, out: heard.append((out[0] if isinstance(out, tuple) else out).detach())
    hook = model.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        model(pixels)
    hook.remove()
    return torch.stack(heard)


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_spikes_are_the_librarys(neuron: Callable[[], nn.Module]) -> None:
    """In float64, at every step, of every neuron, on images that the reader has not seen."""
    model = Loop(neuron)
    ours = read(model, SHAPE).double()
    pixels = torch.from_numpy(IMAGES).double() / 255
    with torch.no_grad(), recording(ours) as logs:
        ours(pixels)
    spikes = live(model.eval(), "lif1", pixels.float())
    assert 0.01 < spikes.mean() < 0.99
    close = (logs["lif1"][0][1] - ours.lif1.threshold).abs() < 1e-5  # the library ran in float32
    assert torch.equal(spikes.double()[~close.cumsum(0).bool()], logs["lif1"][0][0][~close.cumsum(0).bool()])
    assert close.float().mean() < 0.01


@pytest.mark.parametrize("name", [name for name in NEURONS if name != "lapicque to zero"])
def test_integers_spike_as_the_library_does(name: str) -> None:
    """All but 2 % of the spikes, those whose membrane potential rounding carries over the threshold."""
    model = Loop(NEURONS[name])
    network = export_model(timed(model, SHAPE), IMAGES).network
    expected = live(model.eval(), "lif1", torch.from_numpy(IMAGES).float() / 255).transpose(0, 1).numpy()
    found = reference.run(network, IMAGES, seed=0, probes=("lif1",)).traces["lif1"].output
    assert np.mean(found != expected) < 0.02


class Synapses(nn.Module):
    """Neurons with a current of their own, whose states are in the loop, behind layers without biases."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        to_zero = {"reset_mechanism": "zero", "reset_delay": False}
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.lif1 = snn.Synaptic(alpha=0.6, beta=0.75, threshold=0.7, **to_zero)
        self.fc2 = nn.Linear(144, 5, bias=False)
        self.lif2 = snn.Synaptic(alpha=0.5, beta=0.5, threshold=0.4, **to_zero)

    def forward(self, x: Tensor) -> Tensor:
        (syn1, mem1), (syn2, mem2), spikes = self.lif1.reset_mem(), self.lif2.reset_mem(), []
        for _ in range(STEPS):
            spk1, syn1, mem1 = self.lif1(self.conv1(x), syn1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(spk1.flatten(1)), syn2, mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


def test_neurons_with_a_current_are_read_and_deployed() -> None:
    """All spikes in float but where a potential is at its threshold, and in integers all but 2 %."""
    model = Synapses().eval()
    ours = read(model, SHAPE)
    with torch.no_grad(), recording(ours) as logs:
        ours(torch.from_numpy(IMAGES).float() / 255)
    spikes = live(model, "lif1", torch.from_numpy(IMAGES).float() / 255)
    assert 0.01 < spikes.mean() < 0.99
    close = (logs["lif1"][0][1] - ours.lif1.threshold).abs() < 1e-5
    assert torch.equal(spikes[~close.cumsum(0).bool()], logs["lif1"][0][0][~close.cumsum(0).bool()])
    network = export_model(timed(model, SHAPE), IMAGES).network
    result = reference.run(network, IMAGES, seed=0, probes=("lif1",))
    assert np.mean(result.traces["lif1"].output != spikes.transpose(0, 1).numpy()) < 0.02
    assert np.array_equal(engine.run(network, IMAGES, seed=0).sums, result.sums)
    assert all(layer.cuba is not None for layer in network.layers if layer.spikes)


def test_a_bias_before_their_current_is_refused() -> None:
    model = Synapses()
    model.conv1.bias = nn.Parameter(torch.full((4,), 0.1))
    with pytest.raises(ExportError, match="the bias of its weights would pass through the synapse"):
        export_model(timed(model, SHAPE), IMAGES)


def test_a_reset_that_is_late_is_told_from_one_at_once() -> None:
    """A white image through one weight, x = 0.75 a step, beta 0.5: late, a spike leaves 0.3125, at once 0.8125."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(conv.weight, 0.75)
    model = nn.Sequential(conv, snn.Leaky(beta=0.5, init_hidden=True), nn.Flatten(), nn.Linear(1, 2))
    white = np.full((1, 1, 1, 1), 255, np.uint8)
    m, last, late = 0.0, 0, []
    for _ in range(STEPS):  # the documented equation
        m = 0.5 * m + 0.75 - last
        last = int(m > 1)
        late.append(last)
    network = export_model(timed(model, (1, 1, 1), STEPS), white).network
    found = reference.run(network, white, seed=0, probes=("1",)).traces["1"].output
    assert late == [0, 1, 0, 0, 1, 0, 0]
    assert found.ravel().tolist() == late


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "late subtraction at once": (lambda: snn.Leaky(beta=0.9, reset_delay=False), "misses spikes.*reset_delay=True"),
    "alpha": (lambda: snn.Alpha(alpha=0.9, beta=0.8), "has no counterpart: supported are Lapicque, Leaky"),
    "inhibition": (lambda: snn.Leaky(beta=0.9, inhibition=True), "which has inhibition: leave it at False"),
    "state_quant": (lambda: snn.Leaky(beta=0.9, state_quant=lambda x: x), "which has state_quant"),
    "graded": (lambda: snn.Leaky(beta=0.9, graded_spikes_factor=2.0), "graded_spikes_factor is not 1"),
    "soft spikes": (lambda: snn.Leaky(beta=0.9, spike_grad=torch.sigmoid), "does not spike above its threshold alone"),
    "threshold": (lambda: snn.Leaky(beta=0.9, threshold=-0.1), "threshold is -0.1, it must be positive"),
    "thresholds": (lambda: snn.Leaky(beta=0.9, threshold=torch.rand(4, 1, 1)), "whose 4 thresholds differ"),
    "no leak": (lambda: snn.Leaky(beta=1.0), "beta=1 and reset_mechanism=.subtract.: without a leak"),
    "synaptic": (
        lambda: snn.Synaptic(alpha=0.9, beta=0.8),
        "a current of its own and reset_mechanism=.subtract., one step late: integer neurons with a current are reset",
    ),
    "synaptic, late": (
        lambda: snn.Synaptic(alpha=0.9, beta=0.8, reset_mechanism="zero"),
        "reset_mechanism=.zero., one step late: integer neurons",
    ),
}


@pytest.mark.parametrize(("neuron", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_counterpart_is_refused_by_name(neuron: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ExportError, match=f"not supported: lif1.*{message}"):
        read(Loop(neuron), SHAPE)


def test_spikes_of_neurons_without_a_reset_are_no_output() -> None:
    last = snn.Leaky(beta=0.9, reset_mechanism="none", init_hidden=True)
    with pytest.raises(ExportError, match="the model gives the spikes of 2, which has no reset: give its membrane"):
        read(nn.Sequential(nn.Flatten(), nn.Linear(36, 4), last), SHAPE, STEPS)


def test_neurons_without_a_reset_come_last() -> None:
    with pytest.raises(
        ExportError, match="function flatten , which reads lif1, neurons without a reset: only the last"
    ):
        read(Loop(lambda: snn.Leaky(beta=0.9, reset_mechanism="none")), SHAPE)


class Changed(snn.Leaky):  # type: ignore[misc, name-defined]
    """A neuron that adds noise."""

    def forward(self, input_: Tensor, mem: Tensor | None = None) -> Any:
        return super().forward(input_ + 0.1, mem)


def test_a_subclass_with_its_own_forward_is_refused() -> None:
    with pytest.raises(ExportError, match=r"lif1 \(Changed\), which has a forward of its own: use Leaky itself"):
        read(Loop(lambda: Changed(beta=0.9)), SHAPE)


# --- ways to write a forward ------------------------------------------------------------------------------------------


class Steps(Loop):
    """Another forward over the same layers."""

    def __init__(self) -> None:
        super().__init__(lambda: snn.Leaky(beta=0.8, threshold=0.5))

    def step(self, x: Tensor, mem1: Any = None, mem2: Any = None) -> Any:
        spk1, mem1 = self.lif1(self.conv1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1.view(x.size(0), -1)), mem2)
        return spk2, mem1, mem2


class Summed(Steps):
    def forward(self, x: Tensor) -> Tensor:
        utils.reset(self)
        total: Any = 0
        for _ in range(STEPS):
            total += self.step(x)[0]
        return total / STEPS


class Listed(Steps):
    def forward(self, x: Tensor) -> Any:
        mem1, mem2, spikes = torch.zeros(len(x), 4, 6, 6), torch.zeros(len(x), 5), []
        for _ in range(STEPS):
            spike, mem1, mem2 = self.step(x, mem1, mem2)
            spikes.append(spike)
        return {"spikes": spikes}


class Repeated(Steps):
    def forward(self, x: Tensor) -> Tensor:
        utils.reset(self)
        frames = x.repeat(STEPS, 1, 1, 1, 1)
        return torch.stack([self.step(frame)[0] for frame in frames]).mean(dim=0)


@pytest.mark.parametrize("kind", [Summed, Listed, Repeated])
def test_loops_are_read_however_they_are_written(kind: type[Steps]) -> None:
    model = kind()
    ours = read(model, SHAPE)
    pixels = torch.from_numpy(IMAGES).float() / 255
    spikes = live(model.eval(), "lif2", pixels)
    with torch.no_grad():
        assert torch.equal(ours(pixels) * STEPS, spikes.sum(0))
    assert ours.encode.steps == STEPS


class Branching(Steps):
    def forward(self, x: Tensor) -> Any:
        return self.step(x) if x.mean() > 0.5 else self.step(1 - x)


class Poisson(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.step(torch.bernoulli(x))[0] for _ in range(STEPS)])


class Late(Steps):
    def forward(self, x: Tensor) -> Tensor:
        mem1, before, out = None, torch.zeros(len(x), 4, 6, 6), []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.conv1(x), mem1)
            out.append(self.lif2(self.fc2(before.flatten(1)))[0])
            before = spk1
        return torch.stack(out)


class Halved(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.step(x * 0.5)[0] for _ in range(STEPS)])


class Membrane(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.step(x)[2] for _ in range(STEPS)])


class Partly(Steps):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.step(x)[0] for _ in range(STEPS)])[2:].sum(0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Branching, "reads values of a tensor .__bool__.: it must not branch on its data"),
        (Poisson, "function bernoulli draws random numbers"),
        (Late, "lif2 .Leaky., which reads what does not depend on the images"),
        (Halved, "multiplies by 0.5: put the factor into the weights"),
        (Membrane, "gives the membrane potential of lif2, which its resets change"),
        (Partly, "function __getitem__ arranges"),
    ],
)
def test_other_forwards_are_refused(kind: type[Steps], message: str) -> None:
    with pytest.raises(RandhetError, match=message):
        read(kind(), SHAPE)


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = Summed()
    model.library = torch
    with pytest.raises(ExportError, match="cannot be copied, which running it beside ours needs: cannot pickle"):
        read(model, SHAPE)


def test_one_step_a_call_needs_a_number_of_steps() -> None:
    layers = [nn.Conv2d(1, 4, 3), snn.Leaky(beta=0.5, init_hidden=True), nn.Flatten(), nn.Linear(64, 3)]
    with pytest.raises(ExportError, match="runs one time step a call and does not say how many: give steps"):
        read(nn.Sequential(*layers), SHAPE)
    with pytest.raises(ExportError, match="runs 7 time steps, 3 are given"):
        read(Summed(), SHAPE, 3)


@pytest.mark.parametrize("how", ["last", "max", "mean"])
def test_a_leaky_read_out_is_read_at_its_membrane_potential(how: str) -> None:
    """The last layer without a reset; its potential at the last step, at its largest, or on average decides."""

    class Read(Steps):
        def forward(self, x: Tensor) -> Tensor:
            utils.reset(self)
            potentials = torch.stack([self.step(x)[2] for _ in range(STEPS)])
            return {"last": potentials[-1], "max": potentials.max(0)[0], "mean": potentials.mean(0)}[how]

    model = Read()
    model.lif2 = snn.Leaky(beta=0.85, reset_mechanism="none")
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(IMAGES).float() / 255)
        assert torch.allclose(read(model, SHAPE)(torch.from_numpy(IMAGES).float() / 255), expected, atol=1e-5)
    result = reference.run(export_model(timed(model, SHAPE), IMAGES).network, IMAGES, seed=0)
    assert np.corrcoef(result.sums.ravel(), expected.numpy().ravel())[0, 1] > 0.99
