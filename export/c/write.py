"""The files of a program: generated constants, and the kernels as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

from randhet.base.errors import FileError
from randhet.base.files import replacing
from randhet.export.c import chacha
from randhet.export.c.layers import part
from randhet.export.c.plan import Plan, keyed, plan
from randhet.export.c.site import Part, Site
from randhet.export.c.text import comment, string, structure
from randhet.fixed_point import network as ir

HERE = Path(__file__).parent
KERNELS = ("randhet.h", "randhet.c", "randhet_layers.c")
PROGRAM = ("main.c", "Makefile")


def files(network: ir.Network) -> dict[str, str]:
    """Return the text of every file by name; the same for the same network. NetworkError where it is too large."""
    made = plan(network)
    parts = [part(Site(i, network, made)) for i in range(len(network.layers))]
    fixed = {name: (HERE / name).read_text("utf-8") for name in (*KERNELS, *PROGRAM)}
    return {
        "network.h": header(network, made),
        "network.c": constants(network, made, parts),
        "README.md": readme(network, made, parts),
        **fixed,
        **(_keyed_files(fixed["Makefile"]) if keyed(network) else {}),
    }


def _keyed_files(makefile: str) -> dict[str, str]:
    return {**chacha.texts(HERE), "Makefile": chacha.makefile(makefile)}


def save(folder: str | Path, texts: Mapping[str, str]) -> None:
    """Write the files into a folder, which is made where it is missing; FileError where that cannot be."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"cannot write {folder}: it is a file, give the name of a folder")
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, "utf-8", newline="\n")


def header(network: ir.Network, made: Plan) -> str:
    """Return network.h: types and sizes."""
    low, high = network.ranges[0].low, network.ranges[0].high
    seed = f"#define RANDHET_SEED UINT64_C({network.seed % 2**64})\n" if network.seed is not None else ""
    drawn = 1 if keyed(network) else sum(layer.drawn is not None for layer in network.layers)
    frame = prod(network.shapes[0]) if network.input.sequence else 0
    return f"""/* Sizes of one network. Written by randhet; see network.c. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

typedef {made.value} randhet_value; /* holds what any layer sends */
typedef {made.total} randhet_sum;   /* holds what is read of an image */

#define RANDHET_STEPS {network.steps}
#define RANDHET_INPUTS {prod(network.shapes[0])} /* {" x ".join(map(str, network.shapes[0]))} */
#define RANDHET_FRAME {frame} /* values from step to step: 0 where the image stays */
#define RANDHET_INPUT_LOW ({low})
#define RANDHET_INPUT_HIGH {high}
#define RANDHET_OUTPUTS {made.outputs}
#define RANDHET_START ({start(network)}) /* what is read before the first step */
#define RANDHET_LAYERS {len(network.layers)}
#define RANDHET_DRAWN {drawn} /* layers that draw */
#define RANDHET_CORES {made.register_count} /* registers */
#define RANDHET_WORDS {made.word_count}
#define RANDHET_READ_OUTS {made.read_outs} /* the first words: they start from 0 with each image */
#define RANDHET_VALUES {made.value_count}
#define RANDHET_RECURRENT {made.recurrent} /* the first values: they are read at the next step */
#define RANDHET_DRAWS {made.draw_count}
{seed}
/* Name of a class, empty where it has none. */
const char *randhet_class(int32_t number);

#endif
"""


def constants(network: ir.Network, made: Plan, parts: list[Part]) -> str:
    """Return network.c: weights, thresholds, tables and geometry, and the order in which layers run."""
    layers, cipher = enumerate(network.layers), keyed(network)
    drawn = "&cores_key, " if cipher else "".join(f"&cores_{i}, " for i, layer in layers if layer.drawn)
    return "\n".join(
        [
            "/* One network: constants of its layers, and the order in which they run. Written by randhet. */",
            '#include "randhet.h"\n',
            *(['#include "randhet_chacha.h"\n', chacha.KEY] if cipher else []),
            *_definitions(network, parts),
            _end_order(network, made),
            f"const struct randhet_cores *const randhet_drawn[RANDHET_DRAWN + 1] = {{{drawn}0}};\n",
            _function("randhet_image_layers", _calls(network, [p.image for p in parts])),
            _function("randhet_step_layers", _step_lines(network, parts)),
            _classes(network),
        ]
    )


def _definitions(network: ir.Network, parts: list[Part]) -> list[str]:
    """Tables and structures layer by layer; a table that several layers use stands with the first."""
    known: set[str] = set()
    lines = []
    for i, found in enumerate(parts):
        lines.append(f"/* --- {describe(network, i)} --- */\n")
        for table in found.tables:
            if table.name not in known:
                lines.append(table.text())
                known.add(table.name)
        lines += found.structures
    return lines


def describe(network: ir.Network, i: int) -> str:
    """Return one line about a layer: number, name, what it is, shapes."""
    layer = network.layers[i]
    shape = lambda of: "x".join(map(str, network.shapes[of]))
    read = f", {' + '.join(shape(j) for j in layer.inputs)} to" if layer.inputs else ","
    name, kind = comment(layer.name), type(layer.operation).__name__
    return f"layer {i}, {name}: {kind}{read} {shape(i)}{''.join(f', {what}' for what in _qualities(layer))}"


def _qualities(layer: ir.Layer) -> Iterator[str]:
    """What is said of a layer beside its operation and shapes."""
    if isinstance(layer.operation, ir.Input) and layer.operation.sequence:
        yield "a frame at every step"
    if layer.recurrent is not None:
        yield "reads its own spikes of the step before"
    if layer.neuron:
        yield type(layer.neuron).__name__
    if layer.neuron and layer.dynamics and not layer.spikes:
        yield f"the {NAMES[layer.neuron.read]} of {type(layer.dynamics).__name__}"
    if layer.drawn:
        yield f"decay drawn per {layer.drawn.sampling}"
    if layer.lif and layer.lif.reset_delay:
        yield "reset one step late"
    if layer.lif and layer.lif.floored:
        yield "floor"


def _calls(network: ir.Network, calls: list[tuple[str, ...]]) -> list[str]:
    names = [*(comment(layer.name) for layer in network.layers), "what is read of the image"]
    return [f"{call} /* {name} */" for own, name in zip(calls, names) for call in own]


def _step_lines(network: ir.Network, parts: list[Part]) -> list[str]:
    lines = _calls(network, [*(part.step for part in parts), _end(network)])
    return [*lines, chacha.NEXT] if keyed(network) else lines


def _function(name: str, lines: list[str]) -> str:
    unused = [] if any("frame)" in line for line in lines) else ["(void)frame;"]
    body = "\n".join(f"    {line}" for line in [*unused, *lines])
    return f"void {name}(const randhet_value *frame)\n{{\n{body}\n}}\n"


def _reads_out(network: ir.Network) -> bool:
    return network.layers[-1].neuron is not None and not network.layers[-1].spikes


NAMES: dict[ir.Read, str] = {"sum": "sum", "last": "last step", "max": "largest"}
READS: dict[ir.Read, str] = {"sum": "sum_up", "last": "copy", "max": "raise"}


def _end(network: ir.Network) -> tuple[str, ...]:
    """The call that brings what the last layer sends into what is read of the image."""
    last = network.layers[-1]
    if last.neuron is None or last.spikes:
        return ("randhet_collect(&last);",)
    return (f"randhet_{READS[last.neuron.read] if last.dynamics else 'copy'}(&last);",)


def start(network: ir.Network) -> int:
    """What is read of an image before its first step."""
    return network.ranges[-1].low if ir.read_of(network.layers[-1].neuron) == "max" else 0


def _end_order(network: ir.Network, made: Plan) -> str:
    last = len(network.layers) - 1
    site = Site(last, network, made)
    return structure("order", "last", {"layer": last, "in": _read_from(site), **site.order})


def _read_from(site: Site) -> int | None:
    """Where what is read lies: values that are sent, or words; of Loihi's neuron the voltage, behind the current."""
    if not _reads_out(site.network):
        return site.plan.values[site.number]
    place = int(site.plan.states[site.number] or 0)
    return place + prod(site.shape) if site.layer.cuba else place


def _classes(network: ir.Network) -> str:
    """A switch: a network may have no names of classes at all."""
    names = network.classes[: prod(network.shapes[-1])]
    lines = [f"        case {i}: return {string(name)};" for i, name in enumerate(names)]
    body = "\n".join(["    switch (number) {", *lines, '        default: return "";', "    }"])
    return f"const char *randhet_class(int32_t number)\n{{\n{body}\n}}\n"


def constant_bytes(parts: list[Part]) -> int:
    """Bytes of all tables, each counted once."""
    return sum({table.name: table.bytes for found in parts for table in found.tables}.values())


STILL = ("image", "an image", "`randhet_classify` for each image, which resets")
SEQUENCE = (
    "recording", "a frame", "`randhet_step` for each frame, then `randhet_prediction`"
)  # fmt: skip
"""How a program shows a network what it reads: what that is, its unit, the calls."""


def readme(network: ir.Network, made: Plan, parts: list[Part]) -> str:
    """Return README.md: what the files are, what they need, how to call them."""
    seed = "is in network.h, so its draws are public" if network.seed is not None else "comes from the board's entropy"
    rows = "\n".join(f"- {describe(network, i)}" for i in range(len(network.layers)))
    count, (low, high) = prod(network.shapes[0]), network.ranges[0]
    arena = made.memory + chacha.memory(network)
    what, unit, calls = SEQUENCE if network.input.sequence else STILL
    return f"""# A spiking network as C99

Additions, shifts and comparisons; no multiplication, division, floating point, library, heap or recursion.

| | bytes |
| --- | --- |
| tables in read-only memory, the code aside | {constant_bytes(parts):,} |
| arena, all memory that is written but the stack | {arena:,} |

`network.c` and `network.h` are this network, `randhet.c`, `randhet_layers.c` and `randhet.h` the kernels; `main.c` is
an example for a computer: `make`, then `./example < FILE` with {count} integers {unit}.

A program for a board calls `randhet_seed` once and {calls}:
{count} values in (channel, row, column) order, from {low} to {high}. The seed {seed}.

Compile with `-std=c99 -ffreestanding -fno-builtin`; GCC also needs `-fno-tree-loop-distribute-patterns`, or it may call
the library's `memset`.

`randhet_reset` before each {what}: the network forgets what it was shown. Between pieces of one recording, each of
{network.steps} steps, leave it out, and membrane potentials carry on; `./example --stream` does.

## Layers, {network.steps} time steps

{rows}
"""
