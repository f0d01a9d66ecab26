"""What the traces of chunks show, as JSON that loses nothing, and put together in the order of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import reduce
from typing import Any

import numpy as np

from randhet.compare.equality import layers
from randhet.compare.equality.layers import Count
from randhet.compare.equality.tracing import BackendFinding, SpikeDifference, Tracing
from randhet.fixed_point.diagnosis.divergence import Divergence


def as_json(tracing: Tracing) -> dict[str, Any]:
    """Return plain values; Python writes a float so that it is read as the same."""
    counts = {
        name: {field: getattr(count, field).tolist() for field in count.__dataclass_fields__}
        for name, count in tracing.counts.items()
    }
    return {
        "backends": {name: asdict(finding) for name, finding in tracing.backends.items()},
        "same_tau": tracing.same_tau,
        "float_divergence": tracing.float_divergence and asdict(tracing.float_divergence),
        "saturations": int(tracing.saturations),
        "counts": counts,
    }


def of_json(content: Mapping[str, Any]) -> Tracing:
    """Return the tracing that `as_json` was given."""
    spike = content["float_divergence"]
    return Tracing(
        {name: BackendFinding(**_at(found, "divergence")) for name, found in content["backends"].items()},
        content["same_tau"],
        spike and SpikeDifference(**_at(spike, "at")),
        content["saturations"],
        {
            name: Count(**{field: np.array(values, np.float64) for field, values in count.items()})
            for name, count in content["counts"].items()
        },
    )


def _at(found: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The fields, one of them a difference or None."""
    at = found[field]
    return {**found, field: at and Divergence(**at | {"neuron": tuple(at["neuron"])})}


def joined(parts: Sequence[Tracing]) -> Tracing:
    """Put consecutive chunks together, from the first on: sums of rounded numbers depend on their order."""
    return reduce(_both, parts)


def _both(before: Tracing, after: Tracing) -> Tracing:
    return Tracing(
        {name: _finding(finding, after.backends[name]) for name, finding in before.backends.items()},
        before.same_tau + after.same_tau,
        before.float_divergence or after.float_divergence,
        before.saturations + after.saturations,
        layers.add(before.counts, after.counts),
    )


def _finding(before: BackendFinding, after: BackendFinding) -> BackendFinding:
    return replace(
        before,
        outputs=before.outputs + after.outputs,
        membranes=before.membranes + after.membranes,
        seconds=before.seconds + after.seconds,
        divergence=before.divergence or after.divergence,
    )
