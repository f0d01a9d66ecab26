"""Where a layer stands when its C is made, and what it adds to the program."""

from __future__ import annotations

from dataclasses import dataclass

from randhet.base.errors import NetworkError
from randhet.export.c.plan import Plan, channels_of, holds
from randhet.export.c.text import Table
from randhet.fixed_point import network as ir

REACH = 2**30
"""Positions, rows and columns that a window may pass through stay below: 32 bit arithmetic holds them."""

Fields = dict[str, object]


@dataclass(frozen=True, eq=False)
class Part:
    """What a layer adds to the program. image, step: the statements that run once per image, and at every step."""

    tables: tuple[Table, ...] = ()
    structures: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    step: tuple[str, ...] = ()

    def __add__(self, other: Part) -> Part:
        return Part(
            self.tables + other.tables, self.structures + other.structures, self.image + other.image,
            self.step + other.step,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Site:
    """A layer in its network: number, what it is, the shapes it reads and makes, the plan of the memory."""

    number: int
    network: ir.Network
    plan: Plan

    @property
    def layer(self) -> ir.Layer:
        """The layer."""
        return self.network.layers[self.number]

    @property
    def shape(self) -> ir.Shape:
        """Shape of what it makes."""
        return self.network.shapes[self.number]

    @property
    def read(self) -> ir.Shape:
        """Shape of the first layer it reads."""
        return self.network.shapes[self.layer.inputs[0]]

    @property
    def sources(self) -> list[int | None]:
        """Places of the values it reads."""
        return [self.plan.values[i] for i in self.layer.inputs]

    @property
    def held(self) -> bool:
        """Whether its neurons read the same synaptic sums at every step."""
        return holds(self.network, self.plan.still, self.number)

    @property
    def order(self) -> Fields:
        """Channels and pixels of what it makes, and how many values that are."""
        channels, pixels = channels_of(self.shape)
        return {"channels": channels, "pixels": pixels, "count": channels * pixels}


def strides(steps: ir.Pair, counts: tuple[int, int]) -> ir.Pair:
    """Strides or dilations; 1 along an axis that is not stepped, whatever the file says there."""
    y, x = (step if count > 1 else 1 for step, count in zip(steps, counts))
    return y, x


def reachable(site: Site, y: int, x: int, row: int, pixel: int) -> None:
    """NetworkError where y rows and x columns, or the values on the way, pass what 32 bits hold."""
    if max(y, x, y * row + x * pixel) >= REACH:
        raise NetworkError(
            f"layer {site.layer.name}: as C its windows reach over {max(y, x, y * row + x * pixel)} values, "
            f"the limit is {REACH - 1}"
        )
