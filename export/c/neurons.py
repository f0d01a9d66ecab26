"""The neurons of a layer as C: their constants and the call that runs them."""

from __future__ import annotations

from math import prod

import numpy as np

from randhet.base.kinds import assert_never
from randhet.export.c import chacha
from randhet.export.c.plan import channels_of, keyed
from randhet.export.c.site import Fields, Part, Site
from randhet.export.c.text import Table, structure
from randhet.fixed_point import network as ir

RESETS = {"zero": 0, "subtract": 1}


def neurons(site: Site, window: str) -> Part:
    """Return the neurons of a layer with weights; window: the structure that says where its sums are."""
    neuron = site.layer.neuron
    match neuron:
        case ir.Lif():
            return _late(site, neuron, window) if neuron.reset_delay or neuron.floored else _lif(site, neuron, window)
        case ir.Cuba():
            return _cuba(site, neuron, window, "cuba")
        case ir.ReadOut():
            bias, fields = _bias(site, neuron.bias)
            made = _made(site, "read_out", {**fields, "membrane": site.plan.states[site.number]}, bias)
            return made + _call(site, "read_out", "read_out", window)
        case ir.Leaky():
            return _leaky(site, neuron.dynamics, window)
        case None:
            return _send(site, window)
        case _:
            assert_never(neuron)


def _send(site: Site, window: str) -> Part:
    """Without a neuron the sums are sent: once per image where what is read is the image's alone."""
    made, call = _made(site, "send", {"out": site.plan.values[site.number]}), _call(site, "send", "send", window)
    return made + (Part(image=call.step) if site.plan.still[site.number] else call)


def _leaky(site: Site, dynamics: ir.Spiking, window: str) -> Part:
    match dynamics:
        case ir.Lif():
            return _late(site, dynamics, window)
        case ir.Cuba():
            return _cuba(site, dynamics, window, "leaky_cuba")
        case _:
            assert_never(dynamics)


def _made(site: Site, kind: str, fields: Fields, *tables: Table, before: tuple[str, ...] = ()) -> Part:
    """A structure of a layer with its tables."""
    made = structure(kind, f"{kind}_{site.number}", {"layer": site.number, **fields})
    return Part(tables, (*before, made))


def _call(site: Site, function: str, kind: str, window: str) -> Part:
    return Part(step=(f"randhet_{function}(&{window}, &{kind}_{site.number});",))


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


def _lif(site: Site, neuron: ir.Lif, window: str) -> Part:
    return _lif_structure(site, neuron) + _call(site, "lif", "lif", window)


def _lif_structure(site: Site, neuron: ir.Lif) -> Part:
    number, plan = site.number, site.plan
    levels, fields = _levels(site, neuron.threshold, neuron.bias)
    decay = _decay(site, neuron.decay)
    fields |= {
        **_decay_fields(site, decay), "k": neuron.k, "f": neuron.f,
        "edge": 2**25 >> neuron.f, "subtract": RESETS[neuron.reset], "pixels": channels_of(site.shape)[1],
        "membrane": plan.states[number], "out": plan.values[number] or 0,
    }  # fmt: skip
    return _made(site, "lif", fields, *levels, *decay.tables, before=decay.structures) + Part(step=decay.step)


def _late(site: Site, neuron: ir.Lif, window: str) -> Part:
    """A Lif with a late reset, a floor or no spikes: a kernel of its own, so that others do not ask for these."""
    number = site.number
    floor = Table(f"floor_{number}", "int32_t", np.atleast_1d(neuron.floor))
    fields: Fields = {
        "lif": f"&lif_{number}", "floor": floor.name, "floor_step": int(floor.values.size > 1),
        "late": neuron.reset_delay, "silent": int(not site.layer.spikes),
    }  # fmt: skip
    made = Part((floor,), (structure("late", f"late_{number}", fields),))
    return _lif_structure(site, neuron) + made + _call(site, "late", "late", window)


def _decay_fields(site: Site, decay: Part) -> Fields:
    """Where the kernel reads decays: a table by draws of registers, or an array by neuron or for all."""
    if keyed(site.network) and site.layer.drawn:
        return {"decay": f"decay_{site.number}", "decay_step": 1, "cores": 0}
    drawn, table = bool(decay.structures), decay.tables[0]
    cores = f"&cores_{site.number}" if drawn else 0
    return {"decay": table.name, "decay_step": int(not drawn and table.values.size > 1), "cores": cores}


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
            if keyed(site.network):
                return chacha.decays(site, decay, table)
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


def _cuba(site: Site, neuron: ir.Cuba, window: str, function: str) -> Part:
    levels, fields = _levels(site, neuron.threshold, neuron.bias)
    state = int(site.plan.states[site.number] or 0)
    fields |= {
        "f": neuron.f, "keep_current": f"{4095 - neuron.current_decay}u",
        "keep_voltage": f"{4096 - neuron.voltage_decay}u", "current": state, "voltage": state + prod(site.shape),
        "out": site.plan.values[site.number] or 0,
    }  # fmt: skip
    return _made(site, "cuba", fields, *levels) + _call(site, function, "cuba", window)
