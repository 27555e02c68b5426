"""Policies: plain Python objects that decide. `api` has the protocols and views, a module per kind the built-ins."""

from servesim.registry import Registry

ROUTERS = Registry(
    kind="router",
    group="servesim.routers",
    builtin={
        "round_robin": "servesim.policies.routers:RoundRobin",
        "random": "servesim.policies.routers:Random",
        "least_requests": "servesim.policies.routers:LeastRequests",
        "least_tokens": "servesim.policies.routers:LeastTokens",
        "power_of_two": "servesim.policies.routers:PowerOfTwo",
        "session_affinity": "servesim.policies.routers:SessionAffinity",
    },
)

SCHEDULERS = Registry(
    kind="scheduler",
    group="servesim.schedulers",
    builtin={
        "fcfs": "servesim.policies.schedulers:FirstComeFirstServed",
        "priority": "servesim.policies.schedulers:Priority",
        "sjf": "servesim.policies.schedulers:ShortestJobFirst",
    },
)

PREDICTORS = Registry(
    kind="length predictor",
    group="servesim.length_predictors",
    builtin={
        "oracle": "servesim.policies.predictors:Oracle",
        "noisy": "servesim.policies.predictors:Noisy",
        "constant": "servesim.policies.predictors:Constant",
    },
)

__all__ = ["PREDICTORS", "ROUTERS", "SCHEDULERS"]
