"""Checkpoints: weights, model settings, normalisation, versions. Read with weights_only, so no pickle ever runs."""

from __future__ import annotations

import hashlib
import platform
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from randhet.base import shipped
from randhet.base.errors import FileError, RandhetError
from randhet.base.files import replacing
from randhet.train.baselines.resnet import network
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.published import Published, converted, is_published, normalised, unwrapped

FORMAT = "randhet-checkpoint-1"
WEIGHT_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64)
"""Others have no finite numbers that torch could tell, or are no weights."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything needed to build the model again; `resume` is what only the training loop needs."""

    settings: ModelSettings
    state: Mapping[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: str = ""
    classes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    resume: Mapping[str, Any] | None = None


def versions() -> dict[str, str]:
    """What trained it."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}


def save(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write to a temporary name beside `path`, then rename: the old file or the new one, never half of one."""
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    content |= {"format": FORMAT, "settings": asdict(checkpoint.settings), "state": dict(checkpoint.state)}
    whole = BytesIO()  # torch's own writer tells a full disk as an internal failure, not as an OSError
    torch.save(content, whole)
    with replacing(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def load(path: str | Path, published: Published | None = None) -> Checkpoint:
    """Read and verify a checkpoint; FileError where it is missing, damaged, hostile, foreign, or holds NaN.

    path: a file, or the name of a checkpoint that comes along, such as `digits-randhet-at`.
    published: what a bare state dict of the paper's released script cannot say, None for the paper's settings.
    """
    path = shipped.checkpoint(path)
    try:
        unpacked(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file; every one means the same to the user
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:100]
        raise FileError(f"{path} is not a checkpoint that can be read safely ({reason})") from None
    if is_published(bare := unwrapped(content)):
        return _finite(path, _published(path, bare, published))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise FileError(f"{path} is not a randhet checkpoint (no format entry {FORMAT!r})")
    try:
        checkpoint = _checkpoint(content)
        _fits(checkpoint, Path(path).stat().st_size)
        build(checkpoint)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError, RandhetError) as error:
        raise FileError(f"checkpoint {path} is damaged: {(str(error).splitlines() or ['?'])[0][:100]}") from None
    return _finite(path, checkpoint)


def _published(path: str | Path, content: dict[str, Tensor], asked: Published | None) -> Checkpoint:
    try:
        held(content, Path(path).stat().st_size)
        entries, chosen = normalised(content, asked)
        settings, state = converted(entries, chosen)
        record = {"published": chosen.as_dict()}
        checkpoint = Checkpoint(settings, state, chosen.mean, chosen.std, chosen.data, record=record)
        _fits(checkpoint, Path(path).stat().st_size)
    except RandhetError as error:
        raise FileError(f"{path}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f"{path} is damaged: {(str(error).splitlines() or ['?'])[0][:100]}") from None
    return checkpoint


def _finite(path: str | Path, checkpoint: Checkpoint) -> Checkpoint:
    finite(path, checkpoint.state)
    return checkpoint


def finite(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """FileError where weights are no finite numbers."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FileError(f"checkpoint {path}: weights {name} contain NaN or infinity")


def unpacked(path: str | Path) -> None:
    """torch writes a zip archive of uncompressed entries; anything else could be larger than it looks."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise FileError(f"{path} is not a checkpoint that can be read safely (it is compressed)")
    if sum(entry.file_size for entry in entries) > Path(path).stat().st_size:
        raise FileError(f"{path} is not a checkpoint that can be read safely (its entries overlap)")


def held(state: Mapping[str, Tensor], size: int) -> None:
    """A tensor may claim any shape over one number that the file holds, or be of a kind that holds none."""
    for name, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.dtype not in WEIGHT_TYPES:
            raise FileError(f"weights {name} are {tensor.dtype}, {tensor.layout} and on {tensor.device.type}, not read")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > size:
        raise FileError(f"{len(state)} weights of {claimed} bytes, the file has {size}")


def _fits(checkpoint: Checkpoint, size: int) -> None:
    """The weights are those of the model of these settings and lie in the file, before the model is allocated."""
    held(checkpoint.state, size)
    if len(checkpoint.state) < checkpoint.settings.layers:
        raise FileError(f"{len(checkpoint.state)} weights for {checkpoint.settings.layers} neuron layers")
    with torch.device("meta"):
        wanted = network(checkpoint.settings, checkpoint.mean, checkpoint.std).state_dict()
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    for name in sorted({*shapes, *checkpoint.state}):
        if name not in shapes or name not in checkpoint.state or checkpoint.state[name].shape != shapes[name]:
            raise FileError(f"weights {name} are not those of a model with these settings")


RENAMED = {"rate": "lr", "step": "attack_step"}
"""Settings that checkpoints record under an earlier name."""


def _checkpoint(content: dict[str, Any]) -> Checkpoint:
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content["settings"].items()
    }
    fields = {name: content[name] for name in Checkpoint.__dataclass_fields__} | {"settings": ModelSettings(**settings)}
    fields["record"] = {RENAMED.get(name, name): value for name, value in content["record"].items()}
    return Checkpoint(**fields | {name: tuple(content[name]) for name in ("mean", "std", "classes")})


def build(checkpoint: Checkpoint) -> SEWResNet:
    """The model with its weights, in evaluation mode."""
    model = network(checkpoint.settings, checkpoint.mean, checkpoint.std)
    model.load_state_dict(dict(checkpoint.state))
    return model.eval()


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes of the weights, 64 hex digits: names the source of an exported network."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(state[name].detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def random_init(settings: ModelSettings, seed: int = 0, images: np.ndarray | None = None) -> Checkpoint:
    """Random weights with batch-norm statistics from one pass over images; noise where none given.

    images: (N, C, Y, X) uint8, or recordings (N, T, C, Y, X).

    Currents then have mean 0 and deviation 1, which at a threshold of 0.5 makes about 15 % of the neurons spike.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = settings.in_channels
        if images is None:
            frames = (settings.steps,) if settings.sequence else ()
            shape = 4, *frames, channels, *settings.image_size
            images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        model = network(settings, [0.5] * channels, [0.25] * channels).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model(torch.from_numpy(images).float() / 255)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return Checkpoint(settings, state, (0.5,) * channels, (0.25,) * channels, record={"random_init": seed})
