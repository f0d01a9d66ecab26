"""The fast engine: numba kernels that give the reference's integers, for any batch size and number of threads."""

from randhet.fixed_point.engine.run import run

__all__ = ["run"]
