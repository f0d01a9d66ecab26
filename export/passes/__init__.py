"""The passes from a traced float graph to the integer network, in order, each with what must have run before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from randhet.export.graph import FloatGraph
from randhet.export.passes.activity import Activity
from randhet.export.passes.clip import clip
from randhet.export.passes.correct import correct_bias
from randhet.export.passes.fold import (
    drop_encoding,
    fold_batch_norm,
    fold_drive,
    fold_time,
    neurons_have_currents,
    spread_decays,
)
from randhet.export.passes.forward import fold_batch_norm_forward, fold_normalisation, fold_pools
from randhet.export.passes.linear import merge_linear
from randhet.export.passes.pooled import split_pools
from randhet.export.passes.quantise import Plan
from randhet.export.passes.recurrent import into_layers


@dataclass(frozen=True)
class Pass:
    """A named function, from graph to graph or from plan to plan, and the names of the passes it builds on."""

    run: Callable[..., Any]
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The function's name."""
        return self.run.__name__


FLOAT_PASSES = (
    Pass(drop_encoding),
    Pass(fold_batch_norm, ("drop_encoding",)),
    Pass(merge_linear, ("fold_batch_norm",)),
    Pass(fold_normalisation, ("merge_linear",)),
    Pass(fold_batch_norm_forward, ("fold_normalisation",)),
    Pass(split_pools, ("fold_normalisation",)),
    Pass(fold_pools, ("split_pools",)),
    Pass(neurons_have_currents, ("split_pools", "fold_batch_norm_forward")),
    Pass(into_layers, ("neurons_have_currents",)),
    Pass(fold_drive, ("into_layers",)),
    Pass(spread_decays, ("fold_drive",)),
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


PLAN_PASSES = (Pass(clip), Pass(correct_bias))
"""What calibration data are good for: from graph, plan and activity to a plan."""


def refine(graph: FloatGraph, plan: Plan, activity: Activity) -> Plan:
    """The plan passes that its settings ask for, in order."""
    for step in PLAN_PASSES:
        if step.name in plan.settings.passes:
            plan = step.run(graph, plan, activity)
    return plan
