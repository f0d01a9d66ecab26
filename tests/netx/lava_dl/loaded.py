"""Import before lava-dl: loads Lava and lets lava-dl 0.6.0 run on current libraries. Its arithmetic stays as it is.

Its object detection is left out: it needs OpenCV and torchvision. NumPy 2.4 took away two habits of its code: the
argument `newshape` of reshape, and `int` of an array with one element.
"""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from randhet.lava_runtime.loading import load

load()
OBJECT_DETECTION = "lava.lib.dl.slayer.object_detection"
sys.modules[OBJECT_DETECTION] = ModuleType(OBJECT_DETECTION)

from lava.lib.dl.netx import hdf5  # noqa: E402
from lava.magma.core.process.ports.ports import ReshapePort  # noqa: E402


def whole(value: Any) -> int:
    """Return the one number of an array as an int."""
    return int(np.asarray(value).item())


ReshapePort.get_transform_func_fwd = lambda port: partial(np.reshape, shape=port.shape)
ReshapePort.get_transform_func_bwd = lambda port: partial(np.reshape, shape=port.old_shape)
hdf5.int = whole
