"""Fuzz every reader in turn and add to the counts in FOLDER/counts.json.

python fuzz/all.py READER=RUNS ... FOLDER; new inputs go to FOLDER/READER.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DONE = re.compile(r"number_of_executed_units: (\d+)")


def main(asked: dict[str, int], folder: str) -> None:
    record = Path(folder) / "counts.json"
    for name, runs in asked.items():
        place = Path(folder) / name
        place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(HERE / "run.py"), name, f"-runs={runs}", str(place)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        found = DONE.search(ended.stderr)
        counts = json.loads(record.read_text()) if record.is_file() else {}
        counts[name] = counts.get(name, 0) + int(found[1] if found else 0)
        record.write_text(json.dumps(dict(sorted(counts.items())), indent=1) + "\n")
        print(
            f"{name}: {found[1] if found else 'no'} runs, {'a fault' if ended.returncode else 'no fault'}", flush=True
        )
        if ended.returncode:
            print("\n".join(ended.stderr.splitlines()[-40:]), flush=True)


if __name__ == "__main__":
    main({name: int(runs) for name, runs in (part.split("=") for part in sys.argv[1:-1])}, sys.argv[-1])
