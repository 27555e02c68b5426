"""How far a latency model is expected to be off, by GPU and kind of model: from validations, or "not validated".

The bands are data (``error_bands.json``), written by ``scripts/generate_accuracy.py`` from runs that nothing was fitted
to. A latency model whose parameters are not those that were validated has no band.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

NOT_VALIDATED = "not validated"

_PATH = "path"
"""Parameter that tells where a latency model's data are, not what they say."""


def model_class(*, moe: bool) -> str:
    """Return the kind of model that bands are kept apart by."""
    return "mixture of experts" if moe else "dense"


def expected_error(
    latency: Mapping[str, Any], *, gpu: str, generation: str, kind: str
) -> dict[str, Any] | str:
    """Return the expected error of *latency* for models of *kind* on *gpu*, or `NOT_VALIDATED`.

    Parameters
    ----------
    latency
        Name and parameters of the latency model, as a scenario has them.
    gpu, generation
        Name and architecture of the GPU. Where the GPU itself was not measured, others of its architecture stand in,
        and ``basis`` says so.
    kind
        From `model_class`.

    Returns
    -------
    dict or str
        ``basis`` (``same GPU`` or ``same generation``), ``gpu``, ``data`` (the tables that were validated, or None),
        ``model_class``, ``engine``, ``runs`` that were judged and not fitted, and for ``ttft_s`` and ``tpot_s`` the
        median and the 90 % quantile of the magnitude of the relative error of a run's mean.
    """
    plain = parameters_of(latency)
    fitting = [band for band in _bands() if band["latency"] == plain and band["model_class"] == kind]
    for basis, key, value in (("same GPU", "gpu", gpu), ("same generation", "generation", generation)):
        found = [band for band in fitting if band[key] == value]
        if found:
            # Of several GPUs of a generation the worst is quoted.
            worst = max(found, key=lambda band: band["tpot_s"]["p90"])
            facts = {
                name: worst[name] for name in ("data", "model_class", "engine", "runs", "ttft_s", "tpot_s")
            }
            return {"basis": basis, "gpu": worst["gpu"], **facts}
    return NOT_VALIDATED


def parameters_of(latency: Mapping[str, Any]) -> dict[str, Any]:
    """Return name and parameters of a latency model, without the place of its data."""
    return {key: value for key, value in latency.items() if key != _PATH}


def error_text(error: Mapping[str, Any] | str) -> str:
    """Return an expected error in words."""
    if isinstance(error, str):
        return error
    if error["basis"] == "calibration":
        return _calibration_text(error)
    where = "" if error["basis"] == "same GPU" else f", on another GPU of its generation, {error['gpu']}"
    what = f"of {error['engine']} with {error['model_class']} models{where}"
    if error["data"]:
        what += f", with {error['data']}"
    if error["runs"] == 1:
        single = [f"{_short(name)} {error[name]['median']:.1%}" for name in ("tpot_s", "ttft_s")]
        return f"{' and '.join(single)} off in the one measured run {what}"
    parts = [
        f"{_short(name)} {error[name]['median']:.0%} (90 %: {error[name]['p90']:.0%})"
        for name in ("tpot_s", "ttft_s")
    ]
    return f"{' and '.join(parts)} off in the median of {error['runs']} measured runs {what}"


def _calibration_text(error: Mapping[str, Any]) -> str:
    known = [(_SHORT[name], told["mean"]) for name, told in error["metrics"].items() if name in _SHORT]
    texts = ", ".join(f"{name} {mean:.1%}" for name, mean in known)
    return f"{texts} off in the mean of what calibration {error['file']} held out"


def _short(name: str) -> str:
    return name.removesuffix("_s").upper()


_SHORT = {
    "tpot_s_mean": "TPOT",
    "ttft_s_mean": "TTFT",
    "itl_s_mean": "ITL",
    "e2e_s_mean": "E2E",
    "output_tokens_per_s": "throughput",
}


@cache
def _bands() -> list[dict[str, Any]]:
    text = (files(__package__) / "error_bands.json").read_text(encoding="utf-8")
    bands: list[dict[str, Any]] = json.loads(text)["bands"]
    return bands
