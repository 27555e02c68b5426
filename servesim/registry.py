"""How a name in a scenario becomes an object: built-in classes and entry points behind one look-up.

Entry points are those of installed distributions and of the folders that `servesim.plugin_folders` tells.

A component is written ``{name: NAME, parameter: value, ...}``. Its class declares explicit keyword parameters
with type hints; the registry validates what the scenario gives against them, so that every plugin, built-in
or not, gets the same checks and the same error messages.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, Strict, ValidationInfo, create_model

from servesim.errors import PluginError, nearest
from servesim.plugin_folders import folder_plugins


class ComponentSpec(BaseModel):
    """A component as a scenario writes it: a name, and the parameters of the class behind it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """What stands beside the name."""
        return dict(self.model_extra or {})


BUILT_IN = "built-in"
"""Origin of what comes with servesim."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What a name stands for.

    Attributes
    ----------
    target
        ``"module:Class"``.
    origin
        `BUILT_IN`, an installed distribution with its version, or the path of a folder.
    folder
        The folder that its module must come from; None where any will do.
    """

    target: str
    origin: str
    folder: Path | None = None


@dataclass(frozen=True)
class Registry:
    """The named classes of one plugin kind.

    Parameters
    ----------
    kind
        What the classes are, in one word for messages: ``"router"``.
    group
        Entry-point group that third-party distributions declare: ``"servesim.routers"``.
    builtin
        Name to ``"module:Class"``; the module is imported when the name is first asked for.
    """

    kind: str
    group: str
    builtin: Mapping[str, str]
    _models: dict[type, type[BaseModel]] = field(default_factory=dict, compare=False, repr=False)

    def names(self) -> list[str]:
        """Return every known name: the built-ins in their declared order, then the entry points, sorted."""
        return [*self.builtin, *sorted({name for name, _ in _declared(self.group)} - set(self.builtin))]

    def provider(self, name: str) -> Provider:
        """Return what *name* stands for.

        Raises
        ------
        PluginError
            If the name is unknown or has two providers. A target that is declared twice counts once: a folder that
            is installed, too, is no second provider.
        """
        found = {target: Provider(target, BUILT_IN) for target in [self.builtin.get(name)] if target}
        for point, provider in _declared(self.group):
            if point == name:
                found.setdefault(provider.target, provider)
        if not found:
            raise PluginError(
                f"unknown {self.kind} (got {name!r}). expected one of {', '.join(self.names())}",
                hint=_unknown_hint(name, self.names()),
            )
        if len(found) > 1:
            told = ", ".join(f"{each.target} ({each.origin})" for each in found.values())
            raise PluginError(f"{self.kind} {name!r} has {len(found)} providers: {told}. expected one")
        return next(iter(found.values()))

    def resolve(self, name: str) -> type[Any]:
        """Return the class that *name* stands for.

        Raises
        ------
        PluginError
            If the name has no provider or two, or if what it stands for fails to import or is no class.
        """
        provider = self.provider(name)
        what = f"{self.kind} {name!r} ({provider.target})"
        path, _, attribute = provider.target.partition(":")
        try:
            module = importlib.import_module(path)
            found = getattr(module, attribute)
        except Exception as error:
            raise PluginError(f"{what} failed to import: {type(error).__name__}: {error}") from error
        if provider.folder is not None and not _lies_in(provider.folder, module):
            raise PluginError(
                f"{what}: another module has its name (got {module.__file__}). expected one in {provider.folder}",
                hint="rename the module of the folder",
            )
        if not inspect.isclass(found):
            raise PluginError(f"{what} is not a class (got a {type(found).__name__}). expected one")
        return found

    def parameters(self, name: str) -> type[BaseModel]:
        """Return the pydantic model of the parameters that *name* takes beside its name.

        Raises
        ------
        PluginError
            If the name cannot be resolved, or the constructor behind it does not tell what it takes.
        """
        cls = self.resolve(name)
        try:
            return parameters_model(cls, self._models)
        except PluginError:
            raise
        except Exception as error:  # type hints are code of the plugin's: anything can be wrong with them
            raise PluginError(
                f"{self.kind} {name!r}: the constructor of {cls.__qualname__} cannot be read: "
                f"{type(error).__name__}: {error}"
            ) from error

    def build(
        self, name: str, parameters: Mapping[str, Any], *, context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return a new object of the class behind *name*, its parameters validated.

        *context* is handed to the validators; ``base_dir`` in it is what relative paths start from.

        Raises
        ------
        PluginError
            If the name cannot be resolved.
        pydantic.ValidationError
            If a parameter is unknown, missing or of the wrong type.
        """
        validated = self.parameters(name).model_validate(dict(parameters), context=context)
        return self.resolve(name)(**{key: getattr(validated, key) for key in type(validated).model_fields})


def _unknown_hint(name: str, known: list[str]) -> str:
    """Return the known name that is near, and what users of a folder forget."""
    own = "plugins of a folder need --plugins DIR before the command"
    return " ".join(filter(None, [nearest(name, known), own]))


def _declared(group: str) -> list[tuple[str, Provider]]:
    """Return name and provider of the entry points of *group*: those of folders, then the installed ones."""
    folders = [
        (plugin.name, Provider(plugin.target, str(plugin.folder), plugin.folder))
        for plugin in folder_plugins()
        if plugin.group == group
    ]
    installed = [
        (
            point.name,
            Provider(point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "installed"),
        )
        for point in _installed()
        if point.group == group
    ]
    return [*folders, *installed]


def _lies_in(folder: Path, module: ModuleType) -> bool:
    """Return whether *module* is of a folder's own, and not of a virtual environment in it, say."""
    file = Path(module.__file__ or folder / module.__name__).resolve()
    return file.parent == folder or file.is_relative_to(folder / module.__name__.partition(".")[0])


@cache
def _installed() -> tuple[EntryPoint, ...]:
    """Return all installed entry points; reading them takes milliseconds."""
    groups = entry_points()
    return tuple(point for group in groups.groups for point in groups.select(group=group))


def parameters_model(cls: type[Any], cache: dict[type, type[BaseModel]] | None = None) -> type[BaseModel]:
    """Return a pydantic model with one field per keyword parameter of *cls*'s constructor.

    Numbers are strict wherever they stand in a type hint: ``"40"`` and ``true`` are no numbers, 4.0 is no
    whole one, while 4 is a float. Other types convert as pydantic does: YAML has no form for a path.

    Raises
    ------
    PluginError
        If the constructor hides its keywords behind ``*args`` or ``**kwargs``.
    """
    if cache is not None and cls in cache:
        return cache[cls]
    fields: dict[str, Any] = {}
    if (init := constructor(cls)) is not None:
        hints = typing.get_type_hints(init, include_extras=True)
        for parameter in list(inspect.signature(init).parameters.values())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise PluginError(f"{cls.__qualname__}: parameter {parameter} hides the accepted keywords")
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (_with_strict_numbers(hints.get(parameter.name, Any)), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)
    model: type[BaseModel] = create_model(cls.__name__, __config__=config, **fields)
    if cache is not None:
        cache[cls] = model
    return model


def constructor(cls: type[Any]) -> Callable[..., None] | None:
    """Return the ``__init__`` that *cls* defines or inherits, or None where it has none but object's.

    A protocol's does not count: it is the placeholder ``__init__(self, *args, **kwargs)`` that Python 3.11
    leaves to the classes that name the protocol as their base.
    """
    for owner in cls.__mro__[:-1]:
        if "__init__" in vars(owner) and not getattr(owner, "_is_protocol", False):
            init: Callable[..., None] = vars(owner)["__init__"]
            return None if init is object.__init__ else init
    return None


def _with_strict_numbers(hint: Any) -> Any:
    """Return a type hint that takes no text or truth value for a number, nor a number for a truth value."""
    if hint in (int, float, bool):
        return Annotated[hint, Strict()]
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if not arguments or origin in (typing.Literal, type):
        return hint
    if origin is Annotated:
        return Annotated[_with_strict_numbers(arguments[0]), *hint.__metadata__]
    strict = tuple(_with_strict_numbers(argument) for argument in arguments)
    if strict == arguments:
        return hint
    return typing.Union[strict] if origin in (typing.Union, UnionType) else origin[strict]  # noqa: UP007


def component(registry: Registry) -> PlainValidator:
    """Return a validator that builds a nested component of ``{name: ..., ...}``; objects pass as they are."""

    def build(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, Mapping):
            parameters = dict(value)
            name = parameters.pop("name", None)
            if not isinstance(name, str):
                raise ValueError(f"expected {{name: ...}} with one of {', '.join(registry.names())}")
            try:
                return registry.build(name, parameters, context=info.context)
            except PluginError as error:
                raise ValueError(str(error)) from error
        return value

    return PlainValidator(build)
