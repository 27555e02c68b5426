"""What the layers of one model took on one GPU: the form in which measured layer tables are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from servesim.errors import ServesimError
from servesim.profiles.grid import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionProfile:
    """Attention of one layer, in seconds.

    Attributes
    ----------
    decode
        By ``sequences`` that decode and their mean ``context`` in tokens.
    prefill
        By ``chunk`` tokens of a prompt and the ``start`` tokens of it that are in the KV cache already.
    mixed
        By ``chunk``, ``start``, ``sequences`` and ``context``, the first two as in *prefill*; None where steps that do
        both were not measured, and are priced as the sum of their parts.
    """

    decode: Grid
    prefill: Grid
    mixed: Grid | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProfile:
    """One model on one GPU with one degree of tensor parallelism.

    Attributes
    ----------
    gpu
        Name of the GPU as the profiler wrote it.
    tensor_parallel
        GPUs that the weights were split over.
    heads, kv_heads
        Attention heads of the whole model, by which a profile of another model is told; None if not known.
    architecture
        What else is known of the model: names and values of `servesim.catalog.ModelArchitecture`.
    engine
        Engine and version whose kernels were measured, for the provenance.
    per_layer, per_step
        Time in s by ``tokens`` of each operator that every layer runs, and of each that a step runs once; an operator
        that a layer runs twice has its time doubled.
    per_sequence
        Time in s by ``sequences`` of each operator that runs once per step: output head, sampling.
    experts
        Time in s of a layer's experts by ``tokens`` and ``experts``, how many of them are visited; None where the
        model has none.
    attention
        Of one layer.
    window
        Of one layer with a sliding window, where that was measured apart.
    all_reduces
        Time in s of a step's all-reduces by ``tokens``; None where they were not measured.
    fitted
        What was not measured, so that fitted functions stand in for it.
    """

    gpu: str
    tensor_parallel: int
    heads: int | None
    kv_heads: int | None
    engine: str
    per_layer: Mapping[str, Grid]
    per_step: Mapping[str, Grid]
    per_sequence: Mapping[str, Grid]
    experts: Grid | None
    attention: AttentionProfile
    window: AttentionProfile | None = None
    all_reduces: Grid | None = None
    fitted: tuple[str, ...] = ()
    architecture: Mapping[str, object] = field(default_factory=dict)


def read_layer_profile(path: Path, *, tensor_parallel: int) -> LayerProfile:
    """Return the profile in the folder *path* for *tensor_parallel* GPUs.

    Raises
    ------
    ServesimError
        If there is no such folder, no known profiler wrote it, or it lacks that degree or a shape.
    """
    from servesim.profiles import llmservingsim, native, vidur

    readers: list[tuple[Callable[[Path], bool], Callable[[Path, int], LayerProfile]]] = [
        (native.is_profile, native.read_profile),
        (llmservingsim.is_profile, llmservingsim.read_profile),
        (vidur.is_profile, vidur.read_profile),
    ]
    if not path.is_dir():
        raise ServesimError(f"{path}: no such folder. expected the folder of a layer profile")
    for is_profile, read_profile in readers:
        if is_profile(path):
            return read_profile(path, tensor_parallel)
    raise ServesimError(
        f"{path}: no layer profile (got {', '.join(sorted(each.name for each in path.iterdir())[:8]) or 'nothing'}). "
        "expected LLMServingSim's meta.yaml and tp1, tp2, ..., its older tp1/layers, Vidur's mlp.csv and "
        "attention.csv, AIConfigurator's gemm, attention, ..., or servesim's profile.json"
    )
