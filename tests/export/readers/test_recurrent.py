"""Neurons that read their own spikes: `RLeaky` of snnTorch, and loops that a user writes; in float and in integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from equality import assert_equal
from torch import Tensor, nn

snn = pytest.importorskip("snntorch")

import randhet  # noqa: E402
from randhet.export.float_model import FloatModel  # noqa: E402
from randhet.export.graph import ExportError  # noqa: E402
from randhet.export.readers.read import read  # noqa: E402
from randhet.export.trace import timed, trace  # noqa: E402
from randhet.fixed_point.backends import BACKENDS, runner  # noqa: E402
from randhet.train.general import GeneralLIF  # noqa: E402
from randhet.train.layers import Encode, Flatten, MeanOverTime  # noqa: E402
from randhet.train.neurons import LIF, recording  # noqa: E402

SHAPE, STEPS, WIDTH = (1, 6, 6), 6, 8
IMAGES = np.random.default_rng(5).integers(0, 256, (24, *SHAPE), dtype=np.uint8)


class Looped(nn.Module):
    """A layer of neurons on the image, a recurrent one, and a classifier of spikes; the states in the loop."""

    def __init__(self, neuron: nn.Module, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.fc0, self.lif0 = nn.Linear(36, 12), snn.Leaky(beta=0.5, threshold=0.2)
        self.fc1 = nn.Linear(12, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH) if norm else nn.Identity()
        self.lif1 = neuron
        self.fc2 = nn.Linear(WIDTH, 4)
        self.lif2 = snn.Leaky(beta=0.8, threshold=0.3)
        if norm:
            self.norm.running_var.fill_(0.2)
            self.norm.running_mean.uniform_(-0.3, 0.3)

    def forward(self, x: Tensor) -> Tensor:
        mem0, mem2, out = self.lif0.reset_mem(), self.lif2.reset_mem(), []
        spk, mem = self.lif1.reset_mem()
        for _ in range(STEPS):
            spk0, mem0 = self.lif0(self.fc0(x.flatten(1)), mem0)
            spk, mem = self.lif1(self.norm(self.fc1(spk0)), spk, mem)
            spk2, mem2 = self.lif2(self.fc2(spk), mem2)
            out.append(spk2)
        return torch.stack(out)


class Own(nn.Module):
    """A user's own recurrence; on_image: it reads the image, the same at each step, not the spikes of a layer."""

    def __init__(self, on_image: bool = False, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.on_image = on_image
        self.fc0, self.lif0 = nn.Linear(36, 12), snn.Leaky(beta=0.5, threshold=0.2)
        self.fc1, self.rec = nn.Linear(36 if on_image else 12, WIDTH), nn.Linear(WIDTH, WIDTH, bias=bias)
        self.lif1 = snn.Leaky(beta=0.7, threshold=0.4, reset_mechanism="zero")
        self.fc2 = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        mem0, mem1, out = self.lif0.reset_mem(), self.lif1.reset_mem(), []
        spk = torch.zeros(len(x), WIDTH)
        for _ in range(STEPS):
            shown = x.flatten(1)
            if not self.on_image:
                shown, mem0 = self.lif0(self.fc0(shown), mem0)
            cur = self.fc1(shown) + self.rec(spk)
            spk, mem1 = self.lif1(cur, mem1)
            out.append(self.fc2(spk))
        return torch.stack(out).mean(0)


def rleaky(**settings: Any) -> nn.Module:
    torch.manual_seed(8)
    width = {"linear_features": WIDTH} if settings.get("all_to_all", True) else {}
    made: nn.Module = snn.RLeaky(**{"beta": 0.8, "threshold": 0.4} | width | settings)
    if settings.get("linear_features", width):
        made.recurrent.weight.data *= 2
    return made


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "RLeaky": lambda: Looped(rleaky()),
    "RLeaky to zero, late": lambda: Looped(rleaky(reset_mechanism="zero")),
    "RLeaky to zero, at once": lambda: Looped(rleaky(reset_mechanism="zero", reset_delay=False)),
    "RLeaky behind batch norm": lambda: Looped(rleaky(), norm=True),
    "RLeaky one to one": lambda: Looped(rleaky(all_to_all=False, V=torch.linspace(-0.6, 0.9, WIDTH))),
    "own": lambda: Own(),
    "own, no bias": lambda: Own(bias=False),
}


@pytest.fixture(params=NETWORKS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    return NETWORKS[request.param]().eval()


def live(net: nn.Module, pixels: Tensor) -> Tensor:
    """Spikes (T, N, ...) of the recurrent layer of the model itself, in float32."""
    heard: list[Tensor] = []
    hook = net.lif1.register_forward_hook(lambda module, given, out: heard.append(out[0].detach().double()))
    with torch.no_grad():
        net(pixels)
    hook.remove()
    return torch.stack(heard)


def test_spikes_are_the_models(net: nn.Module) -> None:
    same_spikes(net)


def same_spikes(net: nn.Module) -> None:
    """On images that the reader has not seen; recurrent weights change a good part of them."""
    ours, pixels = read(net, SHAPE), torch.from_numpy(IMAGES).float() / 255
    with torch.no_grad(), recording(ours) as logs:
        ours(pixels)
    (recorded, membranes), spikes = logs["lif1"][0], live(net, pixels)
    close = ((membranes - ours.lif1.threshold).abs() < 1e-5).flatten(2).any(2).cumsum(0).bool()
    assert torch.equal(recorded.double()[~close], spikes[~close]) and close.float().mean() < 0.1
    assert 0.02 < spikes.mean() < 0.98
    ours.lif1.recurrent.weight.data.zero_()
    with torch.no_grad(), recording(ours) as alone:
        ours(pixels)
    assert (alone["lif1"][0][0] != recorded).float().mean() > 0.02


def test_on_the_image_it_is_read_and_not_deployed() -> None:
    """Weights on bytes and on spikes share a scale, in which those on bytes would be 0."""
    net = Own(on_image=True).eval()
    same_spikes(net)
    with pytest.raises(ExportError, match="layer lif1 reads the image and its own spikes .* put a layer with neurons"):
        randhet.deploy(net, IMAGES)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "reference"])
def test_every_backend_gives_the_same_integers(net: nn.Module, backend: str) -> None:
    if missing := BACKENDS[backend].missing():
        pytest.skip(missing)
    network, pixels = randhet.deploy(net, IMAGES), IMAGES[:3]
    assert [layer.name for layer in network.layers if layer.recurrent is not None] == ["lif1"]
    run = lambda name: runner(name)(network, pixels, seed=0, first_image=0, probes=("lif1",))
    assert_equal(run(backend), run("reference"))


def test_integers_spike_as_the_model_does(net: nn.Module) -> None:
    """All but 4 % of the spikes: one that rounding changes comes back, and changes others."""
    expected = live(net, torch.from_numpy(IMAGES).float() / 255).transpose(0, 1).numpy()
    network = randhet.deploy(net, IMAGES)
    found = runner("reference")(network, IMAGES, seed=0, first_image=0, probes=("lif1",)).traces["lif1"].output
    assert np.mean(found != expected) < 0.04


def test_it_is_compared(net: nn.Module, tmp_path: Path) -> None:
    """Backends are equal, and most answers alike."""
    network, images = randhet.deploy(net, IMAGES), torch.from_numpy(IMAGES).float() / 255
    with torch.no_grad():
        labels = timed(net, SHAPE)(images).argmax(1)
    report = randhet.compare_models(net, network, IMAGES, labels.numpy(), backends=("engine", "add-only"), margin=0.2)
    assert all(finding.identical for finding in report.found.tracing.backends.values())
    assert report.found.tracing.saturations == 0 and report.found.agreement > 0.8
    report.write(tmp_path / "report.html")


def test_it_is_attacked() -> None:
    """Gradients through the recurrence find examples."""
    net, images = Own().eval(), torch.from_numpy(IMAGES).float() / 255
    with torch.no_grad():
        labels = net(images).argmax(1)
    found = randhet.attack(net, images, labels, "pgd10+assg", eps=0.2)
    assert found.clean.accuracy == 1 and found.accuracy["pgd10+assg"] < 0.9


def test_it_goes_through_nir_and_onnx(net: nn.Module, tmp_path: Path) -> None:
    """A written graph is restored to the same float model, or refused for a late reset; ONNX gives its logits."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from randhet.export.nir import read as nir_read
    from randhet.export.nir import write as nir_write
    from randhet.export.onnx import float_graph

    model = timed(net, SHAPE)
    graph, images = trace(model, SHAPE), torch.from_numpy(IMAGES).float() / 255
    float_graph.write_inference(tmp_path / "net.onnx", graph)
    with torch.no_grad():
        logits = model(images).numpy()
    given = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(["logits"], {"images": images.numpy()})[0]
    assert np.mean(np.abs(given - logits) < 1e-5) > 0.9
    if any(getattr(node.operation, "reset_delay", 0) for node in graph.nodes):
        with pytest.raises(ExportError, match="a reset one step late"):
            nir_write.write(tmp_path / "net.nir", graph)
        return
    nir_write.write(tmp_path / "net.nir", graph)
    restored = nir_read.load(tmp_path / "net.nir", None, STEPS)[0]
    with torch.no_grad():
        again = FloatModel(restored).eval()(images).numpy()
    assert np.mean(np.abs(again - logits) < 1e-5) > 0.9


def test_a_module_of_ones_own_may_have_recurrent_neurons() -> None:
    """`GeneralLIF` with a layer for its own spikes; in integers U / (1 - tau) of the drive 1, in units of the scale."""
    torch.manual_seed(2)
    back = nn.Linear(WIDTH, WIDTH)
    front = (nn.Flatten(), nn.Linear(36, 12), Encode(STEPS), LIF(0.5, 0.1), nn.Linear(12, WIDTH))
    own = GeneralLIF(0.75, 0.3, drive=1.0, recurrent=back)
    network = randhet.deploy(nn.Sequential(*front, own, nn.Linear(WIDTH, 4), MeanOverTime()).eval(), IMAGES)
    (layer,) = (layer for layer in network.layers if layer.recurrent is not None)
    assert layer.name == "5" and layer.recurrent is not None and layer.scale is not None
    wanted = back.weight.detach().double().numpy() / (1 - 0.75) / layer.scale.reshape(-1, 1)
    assert np.abs(layer.recurrent - wanted).max() <= 0.5 + 1e-4


def test_spikes_return_behind_dense_layers_only() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 6),
        Encode(STEPS),
        GeneralLIF(0.7, recurrent=nn.Linear(1, 1)),
        Flatten(),
        nn.Linear(2, 3),
        MeanOverTime(),
    )
    with pytest.raises(ExportError, match="neuron 2 reads its own spikes and 0: that is possible behind a dense layer"):
        randhet.deploy(net.eval(), IMAGES)


class Doubled(nn.Linear):
    """A linear layer that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_changed_layer_is_refused() -> None:
    front = (nn.Flatten(), nn.Linear(36, WIDTH), Encode(STEPS))
    own = GeneralLIF(0.75, 0.3, recurrent=Doubled(WIDTH, WIDTH))
    with pytest.raises(ExportError, match="3 .GeneralLIF., which has its own forward: use Linear itself"):
        randhet.deploy(nn.Sequential(*front, own, nn.Linear(WIDTH, 4), MeanOverTime()).eval(), IMAGES)


def test_what_cannot_return_is_refused() -> None:
    for settings, message in (
        (
            {"linear_features": None, "conv2d_channels": 4, "kernel_size": 3},
            "return through a convolution or one number",
        ),
        ({"all_to_all": False, "V": 0.5}, "return through a convolution or one number"),
        ({"reset_delay": False}, "misses spikes"),
        ({"reset_mechanism": "none"}, "sends its spikes to itself"),
    ):
        with pytest.raises(ExportError, match=f"lif1 .RLeaky.*{message}"):
            read(Looped(rleaky(**settings)), SHAPE)


class Twice(Own):
    """Spikes that return from the third step on only."""

    def forward(self, x: Tensor) -> Tensor:
        mem1, out = self.lif1.reset_mem(), []
        spk = torch.zeros(len(x), WIDTH)
        for step in range(STEPS):
            cur = self.fc1(x.flatten(1))
            spk, mem1 = self.lif1(cur + self.rec(spk) if step > 1 else cur, mem1)
            out.append(self.fc2(spk))
        return torch.stack(out).mean(0)


class Elsewhere(Own):
    """Spikes of another layer, one step late."""

    def forward(self, x: Tensor) -> Tensor:
        mem0, mem1, out = self.lif0.reset_mem(), self.lif1.reset_mem(), []
        before = torch.zeros(len(x), WIDTH)
        for _ in range(STEPS):
            spk0, mem0 = self.lif0(self.fc0(x.flatten(1)), mem0)
            spk, mem1 = self.lif1(self.fc1(spk0) + self.rec(before), mem1)
            before = spk0[:, :WIDTH] * 1.0
            out.append(self.fc2(spk))
        return torch.stack(out).mean(0)


@pytest.mark.parametrize("kind", [Twice, Elsewhere])
def test_other_loops_are_refused(kind: type[Own]) -> None:
    with pytest.raises(ExportError):
        read(kind().eval(), SHAPE)
