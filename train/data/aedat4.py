"""Decode AEDAT 4 in a program of its own (`apart`) by the package aedat, which ends a damaged file in a panic."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from randhet.train.data import apart
from randhet.train.data.events import MAX_EVENTS, Events
from randhet.train.data.images import DataError


def decode(file: Path) -> Events:
    """Events of the file's first stream of events; DataError for what is damaged or has none."""
    found = apart.decoded("randhet.train.data.aedat4", file)
    rows, columns = found["size"].tolist()
    t, x, y, p = (found[key] for key in "txyp")
    return Events(t, x, y, p, (rows, columns))


def arrays(file: Path) -> apart.Arrays:
    """t, x, y, p and size of a file; DataError where there are no events or too many."""
    import aedat

    decoder = aedat.Decoder(str(file))
    streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
    first, packets, count = min(streams, default=-1), [], 0
    for packet in decoder:
        if packet["stream_id"] == first:
            packets.append(packet["events"])
            count += len(packets[-1])
        # packets are compressed: a small file may hold any number of events
        if count > MAX_EVENTS:
            raise DataError(f"events {file}: more than {MAX_EVENTS} events, which is the limit")
    if not packets:
        raise DataError(f"events {file} {'hold none' if streams else 'have no stream of events'}")
    found, size = np.concatenate(packets), streams[first]
    columns = {key: found[name].astype(np.int64) for key, name in zip("txyp", ("t", "x", "y", "on"))}
    return {**columns, "size": np.array([int(size["height"]), int(size["width"])])}


if __name__ == "__main__":
    sys.exit(apart.serve(arrays))
