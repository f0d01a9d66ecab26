"""What all process models share: the types of messages, and a start that cannot hang Lava."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType

from randhet.lava_runtime.guard import report

MESSAGE_IN = LavaPyType(PyInPort.VEC_DENSE, np.uint8)
MESSAGE_OUT = LavaPyType(PyOutPort.VEC_DENSE, np.uint8)
MESSAGE = LavaPyType(np.ndarray, np.uint8)


class Guarded(PyLoihiProcessModel):
    """Sets up at the first step rather than in __init__, where an error would hang Lava, and says what failed.

    At each command it takes several time steps. Processes stay in step by their messages alone: every step sends and
    receives one on every channel, and a channel holds few.
    """

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.params = proc_params
        self.ready = False

    def run_spk(self) -> None:
        run = self.params["run"] if "run" in self.params._parameters else self.params["plan"].run
        try:
            if not self.ready:
                self.setup()
                self.ready = True
            for step in range(run.at_once):
                # Lava itself counts one step for each command
                self.time_step += step > 0
                self.advance()
        except Exception as error:
            report(run.directory, self.params["name"], error)
            raise

    def setup(self) -> None:
        """Everything that can fail and that the constructor must not do."""

    def advance(self) -> None:
        """One time step."""
        raise NotImplementedError
