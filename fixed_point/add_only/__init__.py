"""The add-only engine: weight fetches, additions, shifts, comparisons; xor and and for the registers. Nothing else."""

from randhet.fixed_point.add_only.run import Counts, run, run_counted

__all__ = ["Counts", "run", "run_counted"]
