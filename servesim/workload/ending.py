"""Does a workload end? Told from its block alone, before any request is made.

A recorded trace ends by itself. A generator does where it has ``requests`` or ``duration_s``; otherwise a
window or ``max_requests`` must end it, beside it or beside the list of sources that it is in.
"""

from __future__ import annotations

from pathlib import Path

from servesim.registry import ComponentSpec
from servesim.workload.generated import ends
from servesim.workload.registries import GENERATORS
from servesim.workload.spec import TransformSpec, WorkloadSpec

NOTHING_ENDS_IT = (
    "nothing ends the stream of requests. expected the generator's requests or duration_s, a window or "
    "max_requests"
)


def endless_generators(spec: WorkloadSpec, *, base_dir: Path | None = None) -> list[tuple[str | int, ...]]:
    """Return the path within *spec* of every generator that nothing ends.

    Parameters
    ----------
    spec
        A ``workload:`` block.
    base_dir
        What relative paths in generators start from; the working directory if None.

    Raises
    ------
    PluginError
        If a generator is unknown or fails to import.
    pydantic.ValidationError
        If a parameter of a generator is unknown, missing or wrong.
    """
    if _is_cut(spec):
        return []
    origins: list[tuple[tuple[str | int, ...], ComponentSpec | None]] = [((), spec.generator)]
    for index, part in enumerate(spec.sources or []):
        origins.append((("sources", index), None if _is_cut(part) else part.generator))
    return [
        (*path, "generator")
        for path, generator in origins
        if generator is not None and _runs_on(generator, base_dir)
    ]


def _is_cut(spec: TransformSpec) -> bool:
    return spec.window is not None or spec.max_requests is not None


def _runs_on(spec: ComponentSpec, base_dir: Path | None) -> bool:
    generator = GENERATORS.build(spec.name, spec.parameters, context={"base_dir": base_dir})
    return ends(generator, f"workload generator {spec.name!r}") == (None, None)
