"""Files that describe experiments: what they have in common, and how they are read.

Like a scenario they are YAML, every mistake is named at its line, and paths in them start from their folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from servesim.errors import ScenarioError
from servesim.experiments.axes import Axis, check_values, overrides_of
from servesim.scenario import Scenario, load_scenario
from servesim.scenario.document import read_document
from servesim.scenario.load import checked

Seeds = Annotated[int, Field(ge=1)] | list[Annotated[int, Field(ge=0)]]
"""So many seeds from the scenario's own on, or the seeds themselves."""


class Section(BaseModel):
    """A block of an experiment file: immutable, no unknown keys, no silent conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ExperimentSpec(Section):
    """What every experiment file says: the scenario, what is changed in it, and the seeds."""

    scenario: str = Field(min_length=1, description="Path of the base scenario.")
    set: dict[str, Any] = Field(
        default_factory=dict, description="Keys of the scenario, separated by dots, to their new values."
    )
    seeds: Seeds = Field(
        default=1,
        union_mode="left_to_right",
        description="How many seeds, from the scenario's own on; or a list of seeds.",
    )

    @field_validator("scenario", mode="after")
    @classmethod
    def _from_the_folder(cls, value: str, info: ValidationInfo) -> str:
        return str(Path((info.context or {}).get("base_dir", Path.cwd())) / value)

    @field_validator("seeds", mode="after")
    @classmethod
    def _are_distinct(cls, value: int | list[int]) -> int | list[int]:
        if isinstance(value, list):
            check_values(value, "seeds")
        return value

    def load(self, varied: dict[str, Any] | None = None) -> Scenario:
        """Return the scenario with the changes of ``set``, then those of *varied*."""
        return load_scenario(
            self.scenario,
            overrides=overrides_of(self.set),
            varied=overrides_of(varied or {}),
            with_files=True,
        )


Spec = TypeVar("Spec", bound=BaseModel)


def read_experiment(path: str | Path, model: type[Spec], *, what: str) -> Spec:
    """Return the experiment file at *path*, a *model*, which messages call *what* (``"a sweep file"``).

    Raises
    ------
    ScenarioError
        If it cannot be read, or anything in it is wrong; all mistakes are named at once.
    """
    path = Path(path)
    document = read_document(path, what=what)
    return checked(document, model, what=what, base_dir=path.absolute().parent)


def axes_of(values: dict[str, list[Any]]) -> list[Axis]:
    """Return the axes that a file's mapping from keys to lists describes.

    Raises
    ------
    ScenarioError
        If a list is empty or has a value twice.
    """
    for key, listed in values.items():
        if not all(key.split(".")):
            raise ScenarioError(f"{key!r}: not a key. expected keys separated by dots")
        check_values(listed, key)
    return [Axis(key, tuple(listed)) for key, listed in values.items()]
