"""Coefficients of the generators: published facts with their sources, in ``huawei_2025.json``.

``scripts/fit_serverless.py`` makes the file; docs/model/serverless.md says what each part means.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from servesim.serverless.curves import Curve, Law

PATH = Path(__file__).with_name("huawei_2025.json")


@cache
def coefficients() -> dict[str, Any]:
    """Return the coefficients as they are saved."""
    document: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return document


def curve(saved: dict[str, list[float]]) -> Curve:
    """Return saved knots as a curve."""
    return Curve(np.array(saved["p"]), np.array(saved["x"]))


def total_law() -> Law:
    """Return the published law of the total cold-start time, all regions pooled."""
    law = coefficients()["total_law"]
    return "lognormal", law["mu"], law["sigma"]


def gap_law() -> Law:
    """Return the published law of the gaps between cold starts of a region, all regions pooled."""
    law = coefficients()["gap_law"]
    return "weibull", law["k"], law["lambda_s"]
