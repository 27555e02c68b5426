"""Can the data tell the parameters apart? From the derivatives of a fit: what is not seen, and what moves together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from servesim.calibration.fit import Floats
from servesim.calibration.parameters import Parameter
from servesim.errors import ServesimError

WIDEST = float(np.log(2.0))
"""A parameter that the data, were the model perfect, tell no better than to this factor either way is not seen."""

CONDITION_MAX = 30.0
"""Of the derivatives, each scaled to length one. Two parameters reach it when their derivatives enclose 4 degrees: a
systematic error of a few percent then moves each by its own size."""

Z = 1.96


class NotIdentifiedError(ServesimError):
    """The measurements cannot tell the parameters that they were to be fitted for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What parameters have to meet: the widest interval, as a logarithm either way, and the largest condition."""

    widest: float
    condition: float


BEFORE = Demands(widest=3.0, condition=10 * CONDITION_MAX)
"""Of derivatives where a fit begins, which may be far from where it ends: only what is hopeless is refused."""

AFTER = Demands(widest=WIDEST, condition=CONDITION_MAX)


def check_identified(
    jacobian: Floats, parameters: Sequence[Parameter], demands: Demands, *, fewest: int, most: int
) -> None:
    """Refuse parameters that the measurements do not tell.

    Parameters
    ----------
    jacobian
        Change of each residual, in units of its noise, by the logarithm of each parameter.
    parameters
        One per column.
    demands
        `BEFORE` or `AFTER` the fit.
    fewest, most
        Sequences in the largest batch of the least and of the most loaded run.

    Raises
    ------
    NotIdentifiedError
        It names the parameter or the pair, and the runs to add.
    """
    lengths = np.linalg.norm(jacobian, axis=0)
    unseen = [
        parameter
        for parameter, length in zip(parameters, lengths, strict=True)
        if length * demands.widest < Z
    ]
    if unseen:
        names = " and ".join(parameter.name for parameter in unseen)
        verb = "does" if len(unseen) == 1 else "do"
        raise NotIdentifiedError(
            f"calibrate: {names} {verb} not show in these runs: to change it shows less than noise does (got "
            f"{jacobian.shape[0]} measurements). expected runs that depend on it",
            hint=f"add {_runs_that_show(unseen[0], fewest, most)}, or leave it out of --fit",
        )
    if len(parameters) < 2:
        return
    _, sizes, directions = np.linalg.svd(jacobian / lengths, full_matrices=False)
    widths = Z * np.sqrt(np.diag(np.linalg.pinv(jacobian.T @ jacobian)))
    condition = sizes[0] / max(sizes[-1], 1e-12)
    if condition > demands.condition or widths.max() > demands.widest:
        first, second = sorted(np.argsort(-np.abs(directions[-1]))[:2])
        a, b = parameters[int(first)], parameters[int(second)]
        raise NotIdentifiedError(
            f"calibrate: {a.name} and {b.name} move together: these runs tell only the two in one "
            f"(got {_got(condition, widths)}",
            hint=f"add {_runs_that_part(a, b, fewest, most)}, or fit one of them: --fit {a.name}",
        )


def _got(condition: float, widths: Floats) -> str:
    """Return what is too much, and what is not."""
    if condition > CONDITION_MAX:
        return f"condition {condition:.3g}). expected at most {CONDITION_MAX:g}"
    factor = np.exp(min(float(widths.max()), 20.0))
    return f"an interval of a factor of {factor:.3g} either way). expected at most {np.exp(WIDEST):g}"


def _runs_that_show(parameter: Parameter, fewest: int, most: int) -> str:
    for words, runs in (
        (("schedule",), "runs without asynchronous scheduling (it hides behind the GPU otherwise)"),
        (("per_sequence",), f"runs at a high concurrency (the largest batch has {most} sequences)"),
        (("prefill", "prompt", "request_s"), "runs with long prompts at concurrency 1"),
        (("link", "reduce", "collective"), "runs with tensor parallelism"),
        (("kv", "context", "attention"), "runs with long contexts at a high concurrency"),
        (
            ("launch",),
            "runs at concurrency 1" if fewest > 1 else "runs of a small model, or engine step logs",
        ),
    ):
        if any(word in parameter.name for word in words):
            return runs
    return "runs at other concurrencies and with other lengths"


def _runs_that_part(a: Parameter, b: Parameter, fewest: int, most: int) -> str:
    """Return the runs in which two parameters weigh differently."""
    names = (a.name, b.name)
    if sum("per_sequence" in name for name in names) == 1:
        return "runs at concurrency 1" if fewest > 2 else f"runs at a concurrency far above {most}"
    if all(any(word in name for word in ("link", "reduce")) for name in names):
        return "runs with long prompts at concurrency 1, beside runs that decode at a high concurrency"
    for words, runs in (
        (("prefill", "gemm"), "runs with long prompts"),
        (("kv", "context", "attention"), "runs with long contexts at a high concurrency"),
        (("memory",), "engine step logs with prompts of many lengths"),
    ):
        if sum(any(word in name for word in words) for name in names) == 1:
            return runs
    return "runs at concurrency 1" if fewest > 2 else "runs at other concurrencies and with other lengths"
