"""Which GPU of the catalog a device is."""

from __future__ import annotations

import re

from servesim.catalog import Gpu
from servesim.catalog.gpus import gpu, gpu_names
from servesim.errors import ServesimError
from servesim.profiler.device import DeviceFacts

_NOT_IN_NAMES = re.compile(r"sxm\d*|\d+gb")
"""Words of catalog names that drivers do not print, or not so."""

MEMORY_RATIO = 0.1
"""Memory of a device may differ so much from the catalog's: versions and reserved parts differ."""


def gpu_of(facts: DeviceFacts) -> Gpu:
    """Return the catalog's entry for a device: all words of its name occur, and its memory is nearest.

    Raises
    ------
    ServesimError
        If there is none.
    """
    fitting = [each for each in map(gpu, gpu_names()) if _matches(facts, each)]
    if not fitting:
        raise ServesimError(
            f"profile: a GPU that is not in the catalog (got {facts.name!r}, {facts.memory_bytes / 2**30:.0f} GiB). "
            f"expected one of {', '.join(gpu_names())}"
        )
    # An "H100 PCIe" is no "H100": the entry of the most words is meant.
    return max(fitting, key=lambda each: (len(_words(each)), -abs(each.memory_bytes - facts.memory_bytes)))


def check_gpu(facts: DeviceFacts, expected: Gpu) -> None:
    """Refuse a device that is not the *expected* GPU."""
    found = gpu_of(facts)
    if found.name != expected.name:
        raise ServesimError(
            f"profile: another GPU (got {facts.name!r}, {found.name}). expected {expected.name}"
        )


def _words(entry: Gpu) -> list[str]:
    return [word for word in entry.name.split("-") if not _NOT_IN_NAMES.fullmatch(word)]


def _matches(facts: DeviceFacts, entry: Gpu) -> bool:
    known = set(re.split(r"[^a-z0-9]+", facts.name.lower()))
    near = abs(entry.memory_bytes / facts.memory_bytes - 1) <= MEMORY_RATIO
    return near and set(_words(entry)) <= known
