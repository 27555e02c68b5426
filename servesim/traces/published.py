"""Traces that are published: where, how large, under which licence, and their checksums (``published.toml``)."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from servesim.errors import ServesimError, nearest


class Published(BaseModel):
    """One published file.

    Attributes
    ----------
    url
        Where it is downloaded from.
    bytes, sha256
        What it must measure; None where that is not known.
    pinned
        Where both are from, None where there is no checksum.
    reader
        The trace reader that takes it; None where detection tells.
    licence, description
        As upstream states them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern="^https?://")
    bytes: int | None = Field(default=None, ge=1)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    pinned: Literal["git-lfs", "copy", "third party"] | None = None
    reader: str | None = None
    licence: str
    description: str

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


@cache
def published() -> dict[str, Published]:
    """Return all published traces by name."""
    text = (files("servesim.traces") / "published.toml").read_text(encoding="utf-8")
    return {name: Published.model_validate(entry) for name, entry in tomllib.loads(text).items()}


def published_trace(name: str) -> Published:
    """Return the published trace called *name*.

    Raises
    ------
    ServesimError
        If there is none.
    """
    try:
        return published()[name]
    except KeyError:
        known = list(published())
        raise ServesimError(
            f"unknown trace (got {name!r}). expected one of {', '.join(known)}", hint=nearest(name, known)
        ) from None


def known_by_checksum(sha256: str) -> Published | None:
    """Return the published trace that has this checksum, or None."""
    return next((each for each in published().values() if each.sha256 == sha256), None)
