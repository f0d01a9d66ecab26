"""The C of a network that draws by the cipher: its files beside the kernels, and what its other files say of it.

The kernels know registers only. The decays of a keyed layer are therefore those of its neurons one by one, in an array
that `randhet_chacha_draw` fills before they are read, and the eight words of the key stand where registers would:
`randhet_seed` makes them as it makes the registers of a layer 0 with eight cores of one neuron.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from randhet.export.c.plan import channels_of, keyed
from randhet.export.c.site import Part, Site
from randhet.export.c.text import Table, structure
from randhet.fixed_point import network as ir
from randhet.fixed_point.keyed import key_of, words_of

FILES = ("randhet_chacha.h", "randhet_chacha.c")
KEY_WORDS = 8
DECAY_BYTES = 2
KEY = structure("cores", "cores_key", {"layer": 0, "first": 0, "neurons": KEY_WORDS, "per_core": 1, "per_image": 0})
"""What `randhet_seed` reads."""
NEXT = "randhet_chacha_next(); /* the step is done */"


def decays(site: Site, decay: ir.Drawn, table: Table) -> Part:
    """Return the layer's array of decays, and the call that draws them, before its neurons."""
    number, (channels, pixels) = site.number, channels_of(site.shape)
    array = f"static uint16_t decay_{number}[{channels * pixels}];\n"
    fields: dict[str, object] = {
        "layer": number, "neurons": channels * pixels, "channels": channels, "pixels": pixels,
        "per_image": int(decay.sampling == "forward"), "table": table.name, "decays": f"decay_{number}",
    }  # fmt: skip
    call = f"randhet_chacha_draw(&keyed_{number});"
    return Part((table,), (array, structure("keyed", f"keyed_{number}", fields)), step=(call,))


def memory(network: ir.Network) -> int:
    """Return the bytes of the arrays of decays, 0 where registers draw."""
    if not keyed(network):
        return 0
    return sum(DECAY_BYTES * prod(shape) for shape, layer in zip(network.shapes, network.layers) if layer.drawn)


def state(network: ir.Network, master: int, first: int) -> np.ndarray:
    """Return key and counts before image number `first`, (12,) uint32 where the registers would be."""
    counts = words_of(first * network.steps) + words_of(first)
    return np.array([*key_of(master).tolist(), *counts], "<u4")


def texts(folder: Path) -> dict[str, str]:
    """Return the files that only keyed networks have."""
    return {name: (folder / name).read_text("utf-8") for name in FILES}


def makefile(text: str) -> str:
    """Return the Makefile with the cipher's files beside the kernels."""
    return text.replace("randhet_layers.c", "randhet_layers.c randhet_chacha.c").replace(
        " randhet.h network.h", " randhet.h randhet_chacha.h network.h"
    )
