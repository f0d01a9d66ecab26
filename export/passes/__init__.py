"""The passes from a traced float graph to the integer network, in order, each with what must have run before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from export.graph import FloatGraph
from export.passes.fold import fold_batch_norm, fold_normalisation, fold_pools, fold_time


@dataclass(frozen=True)
class Pass:
    """A named function from graph to graph and the names of the passes it builds on."""

    run: Callable[[FloatGraph], FloatGraph]
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.run.__name__


FLOAT_PASSES = (
    Pass(fold_batch_norm),
    Pass(fold_normalisation, ("fold_batch_norm",)),
    Pass(fold_pools, ("fold_batch_norm",)),
    Pass(fold_time),
)


def fold(graph: FloatGraph) -> FloatGraph:
    """All float passes in order; a pass whose prerequisite has not run is a mistake in the list."""
    done: set[str] = set()
    for step in FLOAT_PASSES:
        if missing := set(step.after) - done:
            raise RuntimeError(f"pass {step.name} needs {', '.join(sorted(missing))} first")
        graph = step.run(graph)
        done.add(step.name)
    return graph
