"""How a Loihi 2 board is reached: through SLURM or over ethernet, as `lava.utils.loihi` does it."""

from __future__ import annotations

from dataclasses import dataclass

from randhet.lava_runtime.loading import load


@dataclass(frozen=True)
class Board:
    """partition, name: of SLURM; host: address over ethernet; server: its program there; generation: such as N3B3."""

    partition: str | None = None
    name: str | None = None
    host: str | None = None
    server: str = "nxcore/bin/nx_driver_server"
    generation: str = "N3B3"

    def missing(self) -> str | None:
        """Why the board cannot be used from here, None where it can."""
        load()
        from lava.utils import loihi, slurm

        if not loihi.is_installed():
            return (
                "Intel's Lava extension for Loihi (lava-loihi) is not installed: no module lava.utils.loihi2_profiler"
            )
        if self.generation not in loihi.ChipGeneration.__members__:
            return f"chip generation {self.generation} is not one of {', '.join(loihi.ChipGeneration.__members__)}"
        if self.host is None and not slurm.is_available():
            return "no board: SLURM is not available and no --loihi-host was given"
        return None

    def connect(self) -> None:
        """Tell Lava where to run. Raises what Lava raises where the board does not answer."""
        load()
        from lava.utils import loihi

        generation = loihi.ChipGeneration[self.generation]
        if self.host:
            loihi.use_ethernet_host(self.host, self.server, generation)
        else:
            loihi.use_slurm_host(self.partition, self.name, generation)
