"""One layer as C: its constants, its structures, and the calls that run it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from randhet.base.errors import NetworkError
from randhet.base.kinds import assert_never
from randhet.export.c.plan import Plan, channels_of
from randhet.export.c.text import Table, structure
from randhet.fixed_point import network as ir
from randhet.fixed_point.plain import refuse

REACH = 2**30
"""Positions, rows and columns that a window may pass through stay below: 32 bit arithmetic holds them."""

RESETS = {"zero": 0, "subtract": 1}
Fields = dict[str, object]


@dataclass(frozen=True, eq=False)
class Part:
    """What a layer adds to the program. image, step: the statements that run once per image, and at every step."""

    tables: tuple[Table, ...] = ()
    structures: tuple[str, ...] = ()
    image: str = ""
    step: str = ""


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
        """Whether its synaptic sums are the same at every step."""
        return self.layer.weighted is not None and self.plan.still[self.layer.inputs[0]]


def part(site: Site) -> Part:
    """Return everything that the layer adds to the program."""
    operation, number = site.layer.operation, site.number
    match operation:
        case ir.Input():
            return _still(site, "order", _order(site, site.shape), f"randhet_input(&order_{number}, image);")
        case ir.Conv():
            return _weighted(site, operation)
        case ir.Dense():
            return _weighted(site, _as_conv(operation, site.read))
        case ir.Add():
            return _add(site)
        case ir.SumPool():
            return _still(site, "pool", _pool(operation, site), f"randhet_pool(&pool_{number});")
        case ir.Flatten():
            fields = {**_order(site, site.read), "in": site.sources[0]}
            return _still(site, "order", fields, f"randhet_flatten(&order_{number});")
        case ir.And() | ir.Iand() | ir.Concat() | ir.MaxPool() | ir.Spread():
            refuse(operation)
        case _:
            assert_never(operation)


def _still(site: Site, kind: str, fields: Fields, call: str, *tables: Table) -> Part:
    """A layer without a neuron runs once per image where it depends on the image alone."""
    made = structure(kind, f"{kind}_{site.number}", fields)
    once = site.plan.still[site.number]
    return Part(tables, (made,), call if once else "", "" if once else call)


def _order(site: Site, shape: ir.Shape) -> Fields:
    channels, pixels = channels_of(shape)
    out = site.plan.values[site.number]
    count = channels * pixels
    return {"layer": site.number, "in": 0, "out": out, "channels": channels, "pixels": pixels, "count": count}


def _add(site: Site) -> Part:
    number = site.number
    places = Table(f"terms_{number}", "int32_t", np.array(site.sources))
    fields: Fields = {
        "layer": number, "in": places.name, "terms": len(site.sources), "out": site.plan.values[number],
        "count": prod(site.shape),
    }  # fmt: skip
    return _still(site, "add", fields, f"randhet_add(&add_{number});", places)


def _pool(operation: ir.SumPool, site: Site) -> Fields:
    (channels, _, width), (_, down, across) = site.read, site.shape
    (rows, columns), (stride_y, stride_x) = operation.kernel, _strides(operation.stride, (down, across))
    fields: Fields = {
        "layer": site.number, "in": site.sources[0], "out": site.plan.values[site.number],
        "channels": channels, "rows": rows, "columns": columns, "down": down, "across": across,
        "tap_row": width * channels, "tap_step": channels,
        "next_row": stride_y * width * channels, "next": stride_x * channels,
        "count": prod(site.shape),
    }  # fmt: skip
    _reachable(site, stride_y * down + rows, stride_x * across + columns, width * channels, channels)
    return fields


def _strides(steps: ir.Pair, counts: tuple[int, int]) -> ir.Pair:
    """Strides or dilations; 1 along an axis that is not stepped, whatever the file says there."""
    y, x = (step if count > 1 else 1 for step, count in zip(steps, counts))
    return y, x


def _reachable(site: Site, y: int, x: int, row: int, pixel: int) -> None:
    """NetworkError where y rows and x columns, or the values on the way, pass what 32 bits hold."""
    if max(y, x, y * row + x * pixel) >= REACH:
        raise NetworkError(
            f"layer {site.layer.name}: as C its windows reach over {max(y, x, y * row + x * pixel)} values, "
            f"the limit is {REACH - 1}"
        )


# --- layers with weights ----------------------------------------------------------------------------------------------


def _as_conv(operation: ir.Dense, read: ir.Shape) -> ir.Conv:
    """A dense layer as a convolution of one pixel; its columns go from (channel, pixel) to (pixel, channel)."""
    channels, pixels = channels_of(read)
    weight = operation.weight.reshape(-1, channels, pixels).transpose(0, 2, 1)
    return ir.Conv(weight.reshape(len(weight), -1, 1, 1))


def _weighted(site: Site, conv: ir.Conv) -> Part:
    weight = Table(f"weight_{site.number}", "int8_t", _columns(conv))
    window = structure("window", f"window_{site.number}", _window(site, conv))
    neuron = _neuron(site)
    hold = f"randhet_hold(&window_{site.number});" if site.held else ""
    return Part((weight, *neuron.tables), (window, *neuron.structures), hold, neuron.step)


def _columns(conv: ir.Conv) -> np.ndarray:
    """Weights as (row, column, input channel of all groups, output channel of its group)."""
    out, per_group, rows, columns = conv.weight.shape
    grouped = conv.weight.reshape(conv.groups, out // conv.groups, per_group, rows, columns)
    return grouped.transpose(3, 4, 0, 2, 1)


def _window(site: Site, conv: ir.Conv) -> Fields:
    out, channels, rows, columns = conv.weight.shape
    dense = isinstance(site.layer.operation, ir.Dense)
    height, width = (1, 1) if dense else site.read[1:]
    down, across = (1, 1) if dense else site.shape[1:]
    all_channels = channels * conv.groups
    stride_y, stride_x = _strides(conv.stride, (down, across))
    tap_y, tap_x = _strides(conv.dilation, (rows, columns))
    top, left = (-padding for padding in conv.padding)
    _reachable(
        site, height - top + stride_y * down + tap_y * rows, width - left + stride_x * across + tap_x * columns,
        width * all_channels, all_channels,
    )  # fmt: skip
    return {
        "weight": f"weight_{site.number}", "in": site.sources[0], "height": height, "width": width,
        "groups": conv.groups, "channels": channels, "outputs": out // conv.groups, "all": out,
        "rows": rows, "columns": columns, "down": down, "across": across, "top": top, "left": left,
        "origin": int(site.sources[0] or 0) + (top * width + left) * all_channels, "tap_y": tap_y, "tap_x": tap_x,
        "tap_row": tap_y * width * all_channels, "tap_step": tap_x * all_channels,
        "row_weights": columns * channels * out, "tap_weights": channels * out,
        "group_weights": channels * (out // conv.groups), "stride_y": stride_y, "stride_x": stride_x,
        "next_row": stride_y * width * all_channels, "next": stride_x * all_channels,
        "sums": site.plan.sums[site.number], "held": int(site.held),
    }  # fmt: skip


# --- neurons ----------------------------------------------------------------------------------------------------------


def _neuron(site: Site) -> Part:
    neuron = site.layer.neuron
    match neuron:
        case ir.Lif():
            return _lif(site, neuron)
        case ir.Cuba():
            return _cuba(site, neuron)
        case ir.ReadOut():
            bias, fields = _bias(site, neuron.bias)
            return _call(site, "read_out", {**fields, "membrane": site.plan.states[site.number]}, bias)
        case None:
            raise NetworkError(f"layer {site.layer.name} has weights and no neuron")
        case ir.Leaky():
            refuse(neuron)
        case _:
            assert_never(neuron)


def _call(site: Site, kind: str, fields: Fields, *tables: Table, before: tuple[str, ...] = ()) -> Part:
    number = site.number
    made = structure(kind, f"{kind}_{number}", {"layer": number, **fields})
    return Part(tables, (*before, made), "", f"randhet_{kind}(&window_{number}, &{kind}_{number});")


def _per_pixel(values: np.ndarray, shape: ir.Shape) -> np.ndarray:
    """Values per neuron from (channel, row, column) to (row, column, channel)."""
    return values.reshape(channels_of(shape)).T


def _bias(site: Site, bias: np.ndarray) -> tuple[Table, Fields]:
    wide = bias.shape == site.shape and len(site.shape) > 1
    values = _per_pixel(bias, site.shape) if wide else bias
    table = Table(f"bias_{site.number}", "int32_t", values)
    return table, {"bias": table.name, "bias_step": site.shape[0] if wide else 0}


def _levels(site: Site, threshold: np.ndarray, bias: np.ndarray) -> tuple[tuple[Table, Table], Fields]:
    level = Table(f"threshold_{site.number}", "int32_t", threshold)
    offset, fields = _bias(site, bias)
    return (level, offset), {"threshold": level.name, **fields}


def _lif(site: Site, neuron: ir.Lif) -> Part:
    number, plan = site.number, site.plan
    levels, fields = _levels(site, neuron.threshold, neuron.bias)
    decay = _decay(site, neuron.decay)
    fields |= {
        "decay": decay.tables[0].name, "decay_step": int(not decay.structures and decay.tables[0].values.size > 1),
        "cores": f"&cores_{number}" if decay.structures else 0, "k": neuron.k, "f": neuron.f,
        "edge": 2**25 >> neuron.f, "subtract": RESETS[neuron.reset], "pixels": channels_of(site.shape)[1],
        "membrane": plan.states[number], "out": plan.values[number],
    }  # fmt: skip
    return _call(site, "lif", fields, *levels, *decay.tables, before=decay.structures)


def _decay(site: Site, decay: ir.Decay) -> Part:
    """The table that a layer's decays come from, and its registers where they are drawn."""
    name = f"decay_{site.number}"
    match decay:
        case ir.Constant():
            return Part((Table(name, "uint16_t", np.array([decay.mantissa])),))
        case ir.PerNeuron():
            return Part((Table(name, "uint16_t", _per_pixel(decay.mantissa, site.shape)),))
        case ir.Drawn():
            table = Table(f"table_{_first_with(site.network, decay)}", "uint16_t", decay.table)
            return Part((table,), (structure("cores", f"cores_{site.number}", _cores(site, decay)),))
        case _:
            assert_never(decay)


def _first_with(network: ir.Network, decay: ir.Drawn) -> int:
    """The first layer with the same table: layers share it."""
    same = (i for i, layer in enumerate(network.layers) if layer.drawn and (layer.drawn.table == decay.table).all())
    return next(same)


def _cores(site: Site, decay: ir.Drawn) -> Fields:
    return {
        "layer": site.number, "first": site.plan.registers[site.number], "neurons": prod(site.shape),
        "per_core": decay.neurons_per_core, "per_image": int(decay.sampling == "forward"),
    }  # fmt: skip


def _cuba(site: Site, neuron: ir.Cuba) -> Part:
    levels, fields = _levels(site, neuron.threshold, neuron.bias)
    state = int(site.plan.states[site.number] or 0)
    fields |= {
        "f": neuron.f, "keep_current": f"{4095 - neuron.current_decay}u",
        "keep_voltage": f"{4096 - neuron.voltage_decay}u", "current": state, "voltage": state + prod(site.shape),
        "out": site.plan.values[site.number],
    }  # fmt: skip
    return _call(site, "cuba", fields, *levels)
