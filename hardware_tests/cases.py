"""The cases: every neuron and synapse at the edges of its ranges, as networks and images. Data, no expected values."""

from __future__ import annotations

from hardware_tests import cases_draws, cases_kinds, cases_shapes, cases_values
from hardware_tests.case import CASES, Case, alone

__all__ = ["CASES", "Case", "alone", "cases_draws", "cases_kinds", "cases_shapes", "cases_values"]
