"""From a model of another library to one of ours that spikes as it does."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from randhet.export.graph import ExportError
from randhet.export.readers import reader_of, reset
from randhet.export.readers.plain import counterpart
from randhet.export.readers.rebuild import IMAGE, compared, neuron_steps, output_of, rebuilt, stated
from randhet.export.readers.record import Recorder, Traced
from randhet.export.readers.signals import Signal
from randhet.train import layers

FLAT = "flatten"
IMAGES = 2
"""As many are enough: what a layer is does not depend on how many images it sees."""


def read(model: nn.Module, shape: tuple[int, ...], steps: int | None = None) -> fx.GraphModule:
    """Make a model of ours, images (N, *shape) in 0..1 to logits, of one with foreign modules.

    steps: T where the model does not say it. In float64 both spike alike on random images. ExportError lists all that
    is not supported.
    """
    ours, faults, reasons = counterparts(model), list[ExportError](), list[str]()
    for shown in _forms(model, shape, steps):
        twin = _twin(model)
        recorder = Recorder(twin, _doubled(ours))
        try:
            output = _ran(recorder, twin, shown, steps, reasons)
            if output is not None:
                return _understood(recorder, shown, output)
        except ExportError as error:
            faults.append(error)
    if faults:
        raise faults[0]
    raise ExportError(f"the model's forward takes images {shape} in no form, as a batch it says: {reasons[0]}")


def counterparts(model: nn.Module) -> dict[str, nn.Module | None]:
    """Our module of each layer, by name, None for one that changes nothing; ExportError names all that have none."""
    ours, refused = dict[str, nn.Module | None](), list[str]()
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in ours):
            continue
        try:
            reader = reader_of(module)
            own = reader.read(module) if reader else counterpart(module)
        except ExportError as error:
            refused.append(f"{name} ({type(module).__name__}){error}")
            continue
        if own is not None:
            ours[name] = None if isinstance(own, nn.Identity) else own
    if refused:
        raise ExportError(f"not supported: {'; '.join(refused)}")
    return ours


def _twin(model: nn.Module) -> nn.Module:
    """A copy in float64 without state, on which a run leaves no trace in the model."""
    reset(model)
    try:
        twin = copy.deepcopy(model).cpu().double().eval()
    except Exception as error:  # of any attribute
        raise ExportError(f"the model cannot be copied, which running it beside ours needs: {error}") from None
    reset(twin)
    return twin


def _doubled(ours: Mapping[str, nn.Module | None]) -> dict[str, nn.Module | None]:
    return {name: module and copy.deepcopy(module).cpu().double().eval() for name, module in ours.items()}


@dataclass(frozen=True, eq=False)
class Shown:
    """Images (N, *shape), and the form in which a model takes them, with what that is."""

    images: Tensor
    given: Tensor
    signal: Signal


def _forms(model: nn.Module, shape: tuple[int, ...], steps: int | None) -> Iterator[Shown]:
    """Random images in the forms that a model may take: as they are, in one row, in time."""
    for count in dict.fromkeys((IMAGES, *_batches(model))):
        images = torch.rand((count, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        yield Shown(images, images, Signal(IMAGE))
        if len(shape) > 1:
            yield Shown(images, images.flatten(1), Signal(FLAT))
        if steps:
            yield Shown(images, images.expand(steps, *images.shape), Signal(IMAGE, "sequence", None, steps))


def _batches(model: nn.Module) -> Iterator[int]:
    """Numbers of images that a forward has written into it, such as `x.view(batch_size, -1)`."""
    code: Any = getattr(type(model).forward, "__code__", None)
    known = {**getattr(type(model).forward, "__globals__", {}), **vars(model)}
    for name in code.co_names if code else ():
        if "batch" in name and isinstance(known.get(name), int) and 0 < known[name] <= 4096:
            yield known[name]


def _output(recorder: Recorder, twin: nn.Module, shown: Shown, steps: int | None) -> Traced:
    """What decides; a model of one step is called T times, as its user does."""
    if shown.signal.node == FLAT:
        recorder.template.layer(FLAT, layers.Flatten(), (IMAGE,))
    given = recorder.traced(shown.given, shown.signal)
    outputs = [output_of(twin(given), recorder)]
    for error in _refused(recorder):
        raise error
    own = neuron_steps(recorder)
    count = stated(own, steps)
    if own == 1:
        outputs += [output_of(twin(given), recorder) for _ in range(count - 1)]
        return output_of(outputs, recorder)
    return outputs[0]


def _ran(recorder: Recorder, twin: nn.Module, shown: Shown, steps: int | None, reasons: list[str]) -> Traced | None:
    """What decides; None, and a reason, where the model does not take images in this form."""
    try:
        return _output(recorder, twin, shown, steps)
    except ExportError:
        raise
    except Exception as error:  # of the model's own, of any kind
        for refused in _refused(recorder):
            raise refused from None
        reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
        return None


def _refused(recorder: Recorder) -> list[ExportError]:
    """One error with all that was refused, none where nothing was."""
    return [ExportError(f"not supported: {'; '.join(recorder.refused)}")] if recorder.refused else []


def _understood(recorder: Recorder, shown: Shown, output: Traced) -> fx.GraphModule:
    """Our model of what was recorded, once it spikes as the model did."""
    ours = rebuilt(recorder.template, output.signal, neuron_steps(recorder)).eval()
    compared(recorder, ours, shown.images, output)
    return ours.float()
