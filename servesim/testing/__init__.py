"""For authors of plugins and of tests: is a plugin what the program needs, are two results the same.

`check_policy` is the contract of every plugin kind in executable form. `make_request` and `make_views` stand
in for a cluster, `assert_results_equal` compares runs, `step_by_step` turns a scenario into its reference
mode. Hypothesis strategies are in `servesim.testing.strategies`, which alone needs hypothesis. Nothing here
runs during a simulation.
"""

from __future__ import annotations

from servesim.testing.check import check_policy
from servesim.testing.results import assert_results_equal, step_by_step
from servesim.testing.synthetic import make_request, make_views

__all__ = ["assert_results_equal", "check_policy", "make_request", "make_views", "step_by_step"]
