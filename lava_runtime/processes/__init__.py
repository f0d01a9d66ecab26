"""Processes and process models in a folder of their own, because Lava executes every file beside a process."""

from randhet.lava_runtime.loading import load

load()
