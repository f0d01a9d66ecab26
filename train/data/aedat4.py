"""Decode AEDAT 4 in a program of its own: `python -m randhet.train.data.aedat4 FILE OUT.npz`.

The package aedat ends a damaged file in a panic, with lines on standard error, or in an allocation of any size; a child
program is what bounds both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from randhet.base import child
from randhet.train.data.events import Events
from randhet.train.data.images import DataError

PATIENCE = 600
"""Seconds for one file."""


def decode(file: Path) -> Events:
    """Events of the file's first stream of events; DataError for what is damaged or has none."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "events.npz")
        try:
            done = subprocess.run(
                child.command("randhet.train.data.aedat4", str(file.resolve()), str(out)),
                cwd=folder, env=child.environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DataError(f"events {file} are not decoded after {PATIENCE} seconds") from None
        if done.returncode:
            reason = [line for line in done.stderr.splitlines() if line.startswith("events: ")]
            raise DataError(f"events {file} {reason[-1][8:] if reason else 'cannot be read: they are damaged'}")
        with np.load(out) as found:
            rows, columns = found["size"].tolist()
            t, x, y, p = (found[key] for key in "txyp")
            return Events(t, x, y, p, (rows, columns))


def main(file: str, out: str) -> int:
    """Write t, x, y, p and size of a file; exit status 1 where there are none."""
    import aedat

    decoder = aedat.Decoder(file)
    streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    packets = [packet["events"] for packet in decoder if packet["stream_id"] == min(streams, default=-1)]
    if not packets:
        print("events: have no stream of events" if not streams else "events: hold none", file=sys.stderr)
        return 1
    found, size = np.concatenate(packets), streams[min(streams)]
    t, x, y, p = (found[key].astype(np.int64) for key in ("t", "x", "y", "on"))
    np.savez(out, t=t, x=x, y=y, p=p, size=np.array([int(size["height"]), int(size["width"])]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
