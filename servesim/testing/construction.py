"""The constructor's contract: what lets a plugin be built, copied, saved and shown by its parameters.

The rules are scikit-learn's for estimators: parameters are explicit keywords, stored as they are given under
their own names, and everything else happens later, here in ``reset``.
"""

from __future__ import annotations

import inspect
import pickle
from typing import Any

from pydantic import ValidationError

from servesim.errors import PluginError, ServesimError
from servesim.registry import constructor, parameters_model

STATE_OF_READERS = frozenset({"notes", "left_out"})
"""What a trace reader has before it has read: its protocol asks for it from the start."""


def check_construction(policy: Any, where: str) -> tuple[Any, Any]:
    """Return two fresh copies of *policy*, by its parameters and through pickle, if its constructor is in
    order.

    Raises
    ------
    PluginError
        If it is not; *where* begins the message.
    """
    cls = type(policy)
    declared = _declared(cls, where)
    values = _stored(policy, declared, where)
    fresh = _call(cls, values, where)
    _check_kept(fresh, values, where)
    _check_defaults(cls, declared, values, where=where)
    extra = sorted(set(getattr(fresh, "__dict__", {})) - set(values) - STATE_OF_READERS)
    if extra:
        raise PluginError(
            f"{where}: the constructor sets what is no parameter (got {', '.join(extra)}). "
            "expected state to start in reset"
        )
    _check_hints(cls, values, where)
    _check_repr(fresh, values, where)
    try:
        return fresh, pickle.loads(pickle.dumps(fresh))
    except Exception as error:
        raise PluginError(
            f"{where}: cannot be pickled (got {type(error).__name__}: {error}). "
            "expected it to travel to other processes",
            hint="define the class at the top level of a module, with parameters that are plain data",
        ) from error


def parameter_values(policy: Any) -> dict[str, Any]:
    """Return the constructor parameters of *policy* as it stores them."""
    return {name: getattr(policy, name) for name in _declared(type(policy), type(policy).__name__)}


def _declared(cls: type[Any], where: str) -> dict[str, inspect.Parameter]:
    if (init := constructor(cls)) is None:
        return {}
    declared = {}
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PluginError(f"{where}: the constructor takes {parameter}. expected explicit parameters")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            raise PluginError(
                f"{where}: parameter {parameter.name!r} can be given by position. "
                "expected keyword-only parameters, after a *"
            )
        declared[parameter.name] = parameter
    return declared


def _stored(policy: Any, declared: dict[str, inspect.Parameter], where: str) -> dict[str, Any]:
    missing = [name for name in declared if not hasattr(policy, name)]
    if missing:
        raise PluginError(
            f"{where}: parameter {missing[0]!r} is not stored. expected an attribute of the same name"
        )
    return {name: getattr(policy, name) for name in declared}


def _call(cls: type[Any], values: dict[str, Any], where: str) -> Any:
    try:
        return cls(**values)
    except Exception as error:
        raise PluginError(
            f"{where}: cannot be built from its own parameters (got {type(error).__name__}: {error}). "
            "expected the constructor to take what it stores"
        ) from error


def _check_kept(fresh: Any, values: dict[str, Any], where: str) -> None:
    for name, value in values.items():
        if getattr(fresh, name, None) is not value:
            raise PluginError(
                f"{where}: the constructor changes parameter {name!r} (got {getattr(fresh, name, None)!r} "
                f"for {value!r}). expected it to be stored as it is given; conversions belong in reset"
            )


def _check_defaults(
    cls: type[Any], declared: dict[str, inspect.Parameter], values: dict[str, Any], *, where: str
) -> None:
    required = {
        name: values[name] for name, parameter in declared.items() if parameter.default is parameter.empty
    }
    try:
        fresh = cls(**required)
    except (ServesimError, ValueError):
        return  # a constructor may refuse a combination of defaults: "exactly one of a and b"
    _check_kept(fresh, {name: declared[name].default for name in declared if name not in required}, where)


def _check_hints(cls: type[Any], values: dict[str, Any], where: str) -> None:
    """Check that the registry, which validates by type hints, lets the policy's own parameters pass."""
    try:
        parameters_model(cls).model_validate(values)
    except (NameError, TypeError, ValidationError) as error:
        raise PluginError(
            f"{where}: parameters do not pass their own type hints (got {type(error).__name__}: {error}). "
            "expected hints that accept what the object was built with"
        ) from error


def _check_repr(fresh: Any, values: dict[str, Any], where: str) -> None:
    inherited: object = object.__repr__
    if type(fresh).__repr__ is inherited:
        return
    text = repr(fresh)
    for name, value in values.items():
        if f"{name}={value!r}" not in text:
            raise PluginError(
                f"{where}: its repr leaves out a parameter (got {text}). expected {name}={value!r} in it"
            )
