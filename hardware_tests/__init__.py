"""Conformance: the same cases against every backend and, where there is one, the chip. See README.md."""
