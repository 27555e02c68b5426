"""Which measured runs coefficients may be fitted to, and which they are judged on: never the same."""

from __future__ import annotations

import hashlib
from typing import Literal

from servesim.measurements import MeasuredRun

Split = Literal["fitted", "held out"]

SWEEP_BATCHES = (1, 16, 128)
"""Batches of a sweep that may be fitted."""

FITTED_SHARE = 10
"""One configuration of so many closed-loop points may be fitted."""


def sweep_split(run: MeasuredRun) -> Split:
    """Return the side of a run of a batch sweep: that of its batch."""
    return "fitted" if run.deployment.settings["max_num_seqs"] in SWEEP_BATCHES else "held out"


def configuration_split(run: MeasuredRun) -> Split:
    """Return the side of a closed-loop point: all concurrencies of a deployment with the same lengths are on one.

    The side is drawn by a hash of the deployment's names, so that it depends on nothing else in the file.
    """
    digest = hashlib.sha256(str(run.configuration).encode()).digest()
    return "fitted" if digest[0] % FITTED_SHARE == 0 else "held out"
