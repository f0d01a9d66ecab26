"""One layer of the add-only engine for one image: the kernels in their order. No arithmetic on data happens here."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from fixed_point.add_only import kernels
from fixed_point.engine.compiled import kernel
from fixed_point.engine.kernels import jump

LIF, CUBA, NONE = 0, 1, 2


@kernel
def prepare(values, value_at, first, per_tap, planes, list_at, plane_at, count_at, lists, counts):
    """Lists of every bit plane of one step."""
    for plane in range(planes):
        part, number = lists[plane_at[plane] :], counts[count_at[plane] :]
        kernels.list_active(values, value_at, first, per_tap, plane, list_at, part, number)


@kernel
def synapse(
    window, start, stop, tap_at, list_at, plane_at, count_at, lists, counts, planes, signed, packed, chunk_at,
    rows, sums,
):  # fmt: skip
    """Sums of one output pixel, bit plane by bit plane from the highest; returns how many weight rows were added.

    The highest plane of a signed value counts negative.
    """
    sums[:] = 0
    used = 0
    for down in range(planes):
        plane = planes - 1 - down
        if down:
            kernels.double(sums)
        part, number = lists[plane_at[plane] :], counts[count_at[plane] :]
        n = kernels.gather(window, start, stop, tap_at, list_at, part, number, rows)
        kernels.spend(packed, chunk_at, rows, n, sums)
        if signed and not down:
            kernels.negate(sums)
        used += n
    return used


@kernel
def run_layer(
    values, value_at, step_at, first, per_tap, planes, signed, list_at, plane_at, count_at,
    window, window_at, tap_at, packed, chunk_at,
    kind, bias, bias_at, threshold, f, edge, k, decay, decay_at, table, drawn, held,
    states, last, near, far, entry_pixel, entry_channel, entry_state,
    kept_u, kept_v, state_at, out, out_at, record, rows_used, tally,
    lists, counts, rows, sums, membrane, u, acc, wide, chosen, registers,
):  # fmt: skip
    """All steps of one image for one tile of channels.

    step_at (T,): where the input of each step starts in `values`; window_at (pixels + 1,): the entries of each window;
    bias_at, state_at (pixels,): rows of bias map and states; decay_at, out_at (T * pixels,): rows of decays and
    output. rows_used (T,) receives weight rows added; tally: [spikes, saturations]. kind NONE puts out the sums.
    Registers: one per channel, loaded at the entries (see `kernels.enter`) from `states`, which from step to step move
    on by the matrices `near` and `far` (states from `last` on) or stay where they are `held`. The last line of
    arguments is scratch memory, zeros where it is state.
    """
    at, total = 0, sums[: len(acc)]
    for t in range(len(step_at)):
        now = values[step_at[t] :]
        prepare(now, value_at, first, per_tap, planes, list_at, plane_at, count_at, lists, counts)
        if t and drawn and not held:
            jump(states[:last], near)
            jump(states[last:], far)
        entry = 0
        for p in range(len(window_at) - 1):
            rows_used[t] += synapse(
                window, window_at[p], window_at[p + 1], tap_at, list_at, plane_at, count_at, lists, counts,
                planes, signed, packed, chunk_at, rows, sums,
            )  # fmt: skip
            if kind == NONE:
                kernels.store(total, out, out_at[at])
            else:
                if kind == LIF:
                    tally[1] += kernels.to_current(total, bias, bias_at[p], f, edge)
                    if drawn:
                        entry = kernels.enter(
                            entry, p, entry_pixel, entry_channel, entry_state, states, registers
                        )  # fmt: skip
                        kernels.draw(registers)
                        kernels.look_up(registers, table, chosen)
                        kernels.leak(total, chosen, 0, k, membrane, state_at[p], acc)
                    else:
                        kernels.leak(total, decay, decay_at[at], k, membrane, state_at[p], acc)
                else:
                    tally[1] += kernels.cuba(
                        total, bias, bias_at[p], f, kept_u, kept_v, u, membrane, state_at[p], wide, acc
                    )
                if len(record):
                    kernels.store(acc, record, out_at[at])
                tally[0] += kernels.fire(acc, threshold, membrane, state_at[p], out, out_at[at])
            at += 1
