"""`check_policy`: one entry for the contracts of all plugin kinds."""

from __future__ import annotations

from typing import Any

from servesim.errors import PluginError, nearest
from servesim.latency.api import LatencyContext
from servesim.testing.construction import check_construction
from servesim.testing.decisions import check_predictor, check_router, check_scheduler
from servesim.testing.latency_models import check_latency_model
from servesim.testing.workloads import check_generator, check_reader

METHODS = {
    "router": "route",
    "scheduler": "key",
    "length predictor": "predict",
    "latency model": "price",
    "workload generator": "frames",
    "trace reader": "read",
}
"""The kinds of plugins that can be checked, and the method that tells each apart."""

WITHOUT_RESET = ("workload generator", "trace reader")
"""Kinds that keep no state: what they give depends on their parameters (and a seed) alone."""

_CHECKS = {
    "router": check_router,
    "scheduler": check_scheduler,
    "length predictor": check_predictor,
    "workload generator": check_generator,
    "trace reader": check_reader,
}


def check_policy(policy: Any, *, kind: str | None = None, context: LatencyContext | None = None) -> None:
    """Check that *policy* keeps the contract of its kind; return quietly if it does.

    Every kind: explicit keyword-only parameters, stored under their own names, no logic and no state in the
    constructor; picklable; a `repr` of its own names all parameters; two copies that are reset alike answer
    alike; arguments are left as they are. A router chooses one of 1 to n replicas. Keys and predictions are
    numbers. No policy looks at output lengths unless its class says ``oracle = True``. A latency model's
    prices are positive, never fall with more work, and a leap's price is that of its single steps. Generators
    and readers give the columns of `servesim.workload.schema.SCHEMA` in order.

    Parameters
    ----------
    policy
        An instance; copies of it are tried, it is not touched itself.
    kind
        A key of `METHODS`; None: told by the methods that *policy* has.
    context
        The replica that a latency model is tried on; None: two replicas of the catalog.

    Raises
    ------
    PluginError
        The message names the plugin and the rule that it breaks.
    TraceError
        If the file of a trace reader cannot be taken as it is.

    Examples
    --------
    >>> from servesim.policies.routers import LeastRequests
    >>> check_policy(LeastRequests())
    """
    kind = _kind(policy) if kind is None else kind
    if kind not in METHODS:
        raise PluginError(
            f"check_policy: unknown kind (got {kind!r}). expected one of {', '.join(METHODS)}",
            hint=nearest(kind, METHODS),
        )
    where = f"{kind} {type(policy).__name__}"
    for method in [METHODS[kind]] if kind in WITHOUT_RESET else [METHODS[kind], "reset"]:
        if not callable(getattr(policy, method, None)):
            raise PluginError(f"{where}: has no method {method}. expected it to follow the kind's protocol")
    copies = check_construction(policy, where)
    if kind == "latency model":
        check_latency_model(copies, where, context=context)
    else:
        _CHECKS[kind](copies, where)


def _kind(policy: Any) -> str:
    """Return the one kind whose method *policy* has."""
    kinds = [kind for kind, method in METHODS.items() if callable(getattr(policy, method, None))]
    if isinstance(policy, type) or len(kinds) != 1:
        raise PluginError(
            f"check_policy: cannot tell the kind of plugin (got {policy!r}, which has the methods of "
            f"{' and '.join(kinds) or 'no kind'}). expected an instance, or kind= one of {', '.join(METHODS)}"
        )
    return kinds[0]
