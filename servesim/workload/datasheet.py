"""What accompanies a bundled trace: where it comes from, what is in it, what it is good for.

The questions are those of Gebru et al., "Datasheets for Datasets", Communications of the ACM 64(12), 2021,
reduced to what matters for a trace. Reading the YAML files is left to whoever has a YAML library at hand.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class Datasheet(BaseModel):
    """The datasheet of one trace file, kept beside it as ``<name>.datasheet.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Text = Field(description="Name of the trace file.")
    reader: Text = Field(description="Trace reader that takes it.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Parameters that the reader needs for it beside the path."
    )
    rows: int = Field(ge=1, description="Rows in it, the header not counted.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Checksum of the file.")
    motivation: Text = Field(description="Why it was made.")
    composition: Text = Field(description="What a row is, which values occur.")
    collection: Text = Field(description="How the rows were obtained.")
    preprocessing: Text = Field(description="What was done to them afterwards.")
    uses: Text = Field(description="What it is good for, and what it is not.")
    licence: Text = Field(description="Licence of the file.")
    known_defects: tuple[Text, ...] = Field(description="What a reader of the file must put up with.")
    rubric: dict[str, Text] = Field(
        default_factory=dict, description="Check of servesim trace info to what it found in the file."
    )
