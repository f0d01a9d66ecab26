"""The training log for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def logging(directory: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that takes the training loop's news and writes it there; one that drops it where none is asked for.

    loss/batch counts batches; loss/epoch, accuracy/held-out and spike-rate/NEURON, and sigma/NEURON where
    sigma is trained, count epochs.
    """
    if directory is None:
        yield lambda news: None
        return
    from tensorboardX import SummaryWriter

    # the thread that writes ends where the clock is set back by more than 24 days; a full queue would stop the training
    writer = SummaryWriter(str(directory), max_queue=2**20)

    def write(news: dict[str, Any]) -> None:
        if "step" in news:
            writer.add_scalar("loss/batch", news["loss"], (news["epoch"] - 1) * news["steps"] + news["step"])
        else:
            writer.add_scalar("loss/epoch", news["loss"], news["epoch"])
            writer.add_scalar("accuracy/held-out", news["accuracy"], news["epoch"])
            for name, rate in news.get("rates", {}).items():
                writer.add_scalar(f"spike-rate/{name}", rate, news["epoch"])
            for name, sigma in news.get("sigmas", {}).items():
                writer.add_scalar(f"sigma/{name}", sigma, news["epoch"])

    try:
        yield write
    finally:
        writer.close()
