"""Memory and processor time of a process: its own, or those of its whole family of processes."""

from __future__ import annotations

import resource
import sys
import threading
from contextlib import suppress
from pathlib import Path

MEGABYTE = 2**20
STATUS = Path("/proc/self/status")
PERIOD = 0.2


def status_mb(field: str) -> float | None:
    """VmHWM (peak) or VmRSS (now) of this process in MB of 2^20 bytes; None where there is no /proc."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024 / MEGABYTE
    return None


def now_mb() -> float:
    """Resident memory, or the peak where only that is known."""
    return status_mb("VmRSS") or peak_mb()


def peak_mb() -> float:
    """Peak of resident memory. Not getrusage's where it can be helped: that starts from the parent's peak."""
    unit = 1 if sys.platform == "darwin" else 1024
    return status_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEGABYTE


class FamilyPeak:
    """Samples the memory of this process and its descendants, shared pages counted once; `mb` is the peak so far."""

    def __init__(self) -> None:
        self.mb = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        import psutil

        own, pause = psutil.Process(), threading.Event()
        while True:
            family = [own, *own.children(recursive=True)]
            self.mb = max(self.mb, sum(map(_share, family)) / MEGABYTE)
            pause.wait(PERIOD)


def family_cpu() -> float:
    """Processor seconds so far of this process and of its living descendants."""
    import psutil

    own = psutil.Process()
    return sum(map(_spent, [own, *own.children(recursive=True)]))


def _spent(process: object) -> float:
    import psutil

    with suppress(psutil.Error):
        times = process.cpu_times()  # type: ignore[attr-defined]
        return float(times.user + times.system)
    return 0.0


def _share(process: object) -> float:
    import psutil

    with suppress(psutil.Error):
        info = process.memory_full_info()  # type: ignore[attr-defined]
        return float(getattr(info, "pss", info.rss))
    return 0.0
