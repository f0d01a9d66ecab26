"""One layer as C: its constants, its structures, and the calls that run it."""

from __future__ import annotations

import numpy as np

from randhet.base.kinds import assert_never
from randhet.export.c.neurons import neurons
from randhet.export.c.plan import channels_of
from randhet.export.c.site import Fields, Part, Site, reachable, strides
from randhet.export.c.text import Table, structure
from randhet.fixed_point import network as ir


def part(site: Site) -> Part:  # noqa: C901 (a case a kind)
    """Return everything that the layer adds to the program."""
    operation = site.layer.operation
    match operation:
        case ir.Input():
            fields = {"in": 0, "out": _out(site), **site.order}
            return _still(site, "order", fields, f"randhet_input(&order_{site.number}, frame);")
        case ir.Conv():
            return _weighted(site, operation)
        case ir.Dense():
            return _weighted(site, _as_conv(operation.weight, site.read))
        case ir.Add():
            return _add(site)
        case ir.And() | ir.Iand():
            return _gate(site, "and" if isinstance(operation, ir.And) else "iand")
        case ir.Concat():
            return _concat(site)
        case ir.SumPool():
            return _called(site, "pool", _pool(operation, site))
        case ir.MaxPool():
            return _max_pool(site, operation)
        case ir.Spread():
            return _called(site, "spread", _spread(operation, site))
        case ir.Flatten():
            channels, pixels = channels_of(site.read)
            sizes = {"channels": channels, "pixels": pixels, "count": channels * pixels}
            fields = {"in": site.sources[0], "out": _out(site), **sizes}
            return _still(site, "order", fields, f"randhet_flatten(&order_{site.number});")
        case _:
            assert_never(operation)


# --- layers without weights -------------------------------------------------------------------------------------------


def _out(site: Site) -> int | None:
    return site.plan.values[site.number]


def _still(site: Site, kind: str, fields: Fields, call: str, *tables: Table) -> Part:
    """A layer without a neuron runs once per image where it depends on the image alone."""
    made = structure(kind, f"{kind}_{site.number}", {"layer": site.number, **fields})
    once = site.plan.still[site.number]
    return Part(tables, (made,), (call,) if once else (), () if once else (call,))


def _called(site: Site, kind: str, fields: Fields, *tables: Table) -> Part:
    """A layer whose kernel has the name of its structure."""
    return _still(site, kind, fields, f"randhet_{kind}(&{kind}_{site.number});", *tables)


def _sources(site: Site) -> Table:
    return Table(f"terms_{site.number}", "int32_t", np.array(site.sources))


def _add(site: Site) -> Part:
    places = _sources(site)
    fields: Fields = {
        "in": places.name, "terms": len(site.sources), "out": _out(site), "count": site.order["count"],
    }  # fmt: skip
    return _called(site, "add", fields, places)


def _gate(site: Site, function: str) -> Part:
    first, second = site.sources
    fields: Fields = {"first": first, "second": second, "out": _out(site), "count": site.order["count"]}
    return _still(site, "gate", fields, f"randhet_{function}(&gate_{site.number});")


def _concat(site: Site) -> Part:
    places = _sources(site)
    channels = Table(
        f"channels_{site.number}", "int32_t", np.array([site.network.shapes[i][0] for i in site.layer.inputs])
    )
    together, pixels = channels_of(site.shape)
    fields: Fields = {
        "in": places.name, "channels": channels.name, "terms": len(site.sources), "out": _out(site),
        "all": together, "pixels": pixels, "count": together * pixels,
    }  # fmt: skip
    return _called(site, "concat", fields, places, channels)


def _pool(operation: ir.SumPool, site: Site) -> Fields:
    (channels, _, width), (_, down, across) = site.read, site.shape
    (rows, columns), (stride_y, stride_x) = operation.kernel, strides(operation.stride, (down, across))
    reachable(site, stride_y * down + rows, stride_x * across + columns, width * channels, channels)
    return {
        "in": site.sources[0], "out": _out(site),
        "channels": channels, "rows": rows, "columns": columns, "down": down, "across": across,
        "tap_row": width * channels, "tap_step": channels,
        "next_row": stride_y * width * channels, "next": stride_x * channels,
        "count": site.order["count"],
    }  # fmt: skip


def _max_pool(site: Site, operation: ir.MaxPool) -> Part:
    """Its windows lie as those of a convolution of each channel by itself."""
    channels, number = site.read[0], site.number
    alike = ir.Conv(
        np.broadcast_to(np.int8(0), (channels, 1, *operation.kernel)), operation.stride, operation.padding,
        groups=channels,
    )  # fmt: skip
    window = structure("window", f"window_{number}", {"weight": 0, **_geometry(site, alike, site.sources[0])})
    fields: Fields = {"out": _out(site), "count": site.order["count"]}
    call = f"randhet_max_pool(&window_{number}, &max_pool_{number});"
    return Part(structures=(window,)) + _still(site, "max_pool", fields, call)


def _spread(operation: ir.Spread, site: Site) -> Fields:
    channels, height, width = site.read
    stride_y, stride_x = strides(operation.stride, (height, width))
    return {
        "in": site.sources[0], "out": _out(site), "channels": channels, "height": height, "width": width,
        "next_row": stride_y * site.shape[2] * channels, "next": stride_x * channels, "count": site.order["count"],
    }  # fmt: skip


# --- layers with weights ----------------------------------------------------------------------------------------------


def _as_conv(weight: np.ndarray, read: ir.Shape) -> ir.Conv:
    """Dense weights as a convolution of one pixel; columns go from (channel, pixel) to (pixel, channel)."""
    channels, pixels = channels_of(read)
    moved = weight.reshape(-1, channels, pixels).transpose(0, 2, 1)
    return ir.Conv(moved.reshape(len(weight), -1, 1, 1))


def _weighted(site: Site, conv: ir.Conv) -> Part:
    number = site.number
    weight = Table(f"weight_{number}", "int8_t", _columns(conv))
    window = _window(site, conv, weight, site.sources[0], site.plan.sums[number])
    made = Part((weight,), (structure("window", f"window_{number}", {**window, "held": int(site.held)}),))
    hold = Part(image=(f"randhet_hold(&window_{number});",) if site.held else ())
    if site.layer.recurrent is None:
        return made + hold + neurons(site, f"window_{number}")
    return made + hold + _recurrent(site, site.layer.recurrent) + neurons(site, f"all_{number}")


def _recurrent(site: Site, recurrent: np.ndarray) -> Part:
    """Sums of W s and of U s_before are added where those of U s_before are; the neurons find them as sums held."""
    number, sums, outputs = site.number, site.plan.own, site.shape[0]
    weight = Table(f"recurrent_weight_{number}", "int8_t", recurrent.T)
    own = _window(site, _as_conv(recurrent, site.shape), weight, _out(site), sums)
    made: Fields = {"all": outputs, "down": 1, "across": 1, "sums": sums, "held": 1}
    return Part(
        (weight,),
        (structure("window", f"own_{number}", own), structure("window", f"all_{number}", made)),
        step=(f"randhet_recur(&window_{number}, &own_{number});",),
    )


def _columns(conv: ir.Conv) -> np.ndarray:
    """Weights as (row, column, input channel of all groups, output channel of its group)."""
    out, per_group, rows, columns = conv.weight.shape
    grouped = conv.weight.reshape(conv.groups, out // conv.groups, per_group, rows, columns)
    return grouped.transpose(3, 4, 0, 2, 1)


def _window(site: Site, conv: ir.Conv, weight: Table, read: int | None, sums: int | None) -> Fields:
    return {"weight": weight.name, **_geometry(site, conv, read), "sums": sums}


def _geometry(site: Site, conv: ir.Conv, read: int | None) -> Fields:
    """Where the windows of a layer lie."""
    out, channels, rows, columns = conv.weight.shape
    dense = isinstance(site.layer.operation, ir.Dense)
    height, width = (1, 1) if dense else site.read[1:]
    down, across = (1, 1) if dense else site.shape[1:]
    all_channels = channels * conv.groups
    stride_y, stride_x = strides(conv.stride, (down, across))
    tap_y, tap_x = strides(conv.dilation, (rows, columns))
    top, left = (-padding for padding in conv.padding)
    reachable(
        site, height - top + stride_y * down + tap_y * rows, width - left + stride_x * across + tap_x * columns,
        width * all_channels, all_channels,
    )  # fmt: skip
    return {
        "in": read, "height": height, "width": width,
        "groups": conv.groups, "channels": channels, "outputs": out // conv.groups, "all": out,
        "rows": rows, "columns": columns, "down": down, "across": across, "top": top, "left": left,
        "origin": int(read or 0) + (top * width + left) * all_channels, "tap_y": tap_y, "tap_x": tap_x,
        "tap_row": tap_y * width * all_channels, "tap_step": tap_x * all_channels,
        "row_weights": columns * channels * out, "tap_weights": channels * out,
        "group_weights": channels * (out // conv.groups), "stride_y": stride_y, "stride_x": stride_x,
        "next_row": stride_y * width * all_channels, "next": stride_x * all_channels,
    }  # fmt: skip
