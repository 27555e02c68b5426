"""Attention kernels, by whose they are.

``flash-attn`` and ``varlen`` (PyTorch's own), FlashAttention 2 both, take all sequences of a step in one kernel;
``sdpa`` (scaled_dot_product_attention, by cuDNN where it can) takes decodes, the tokens before a chunk, and the chunk
one after the other, and has no sliding window. Keys and values lie in one piece for each sequence, not in pages.

On Hopper and newer, cuDNN's kernels are nearest to those of engines: on an H200, 8,192 tokens run at 617 TFLOP/s and 64
decodes of 2,048 tokens at 4.3 TB/s, where FlashAttention 2 reaches 295 and 2.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from inspect import signature
from itertools import accumulate
from typing import Any

from servesim.errors import ServesimError, nearest
from servesim.profiler.kernels import Attention

Call = Callable[[], object]
Normal = Callable[..., Any]
"""Makes normal random numbers of a shape, in 16 bits."""

NAMES = ("flash-attn", "varlen", "sdpa")
"""In the order of preference, before Hopper and for models with sliding windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attentions:
    """Attention of one kind.

    Attributes
    ----------
    facts, versions
        What `servesim.profiler.device.DeviceFacts` tells of it.
    call
        Returns the call of a kernel, from the function that makes its inputs.
    """

    facts: dict[str, Any]
    versions: dict[str, str]
    call: Callable[[Attention, Normal], Call]


def attentions(torch: Any, kind: str, name: str | None, *, windows: bool = False) -> Attentions:
    """Return the attention called *name* on *kind*, or the first that is there, and has sliding *windows* if need be.

    Raises
    ------
    ServesimError
        If it is unknown, or not there.
    """
    if name is not None and name not in NAMES:
        raise ServesimError(
            f"--attention: unknown (got {name!r}). expected one of {', '.join(NAMES)}",
            hint=nearest(name, NAMES),
        )
    there = _there(torch, kind)
    if name is not None and name not in there:
        raise ServesimError(f"--attention: {name} is not there (got {', '.join(there)}). expected it")
    windowed = [each for each in there if each != "sdpa"] if windows else []
    chosen = name or (windowed or there)[0]
    facts = {
        "attention": f"{chosen} of torch {torch.__version__}",
        "joint_attention": chosen != "sdpa",
        "windows": chosen != "sdpa",
    }
    if chosen == "sdpa":
        return Attentions(facts=facts, versions={}, call=lambda kernel, normal: _sdpa(torch, kernel, normal))
    if chosen == "varlen":
        function, versions = _torch_varlen(), {}
    else:
        function, versions = _flash_attn(), {"flash-attn": version("flash-attn")}
        facts["attention"] = f"flash-attn {versions['flash-attn']}"
    return Attentions(
        facts=facts, versions=versions, call=lambda kernel, normal: joint(torch, function, kernel, normal)
    )


def _there(torch: Any, kind: str) -> list[str]:
    """Return what is installed and runs here: FlashAttention needs an Ampere GPU or a newer one."""
    if kind == "cpu" or torch.cuda.get_device_capability() < (8, 0):
        return ["sdpa"]
    found = [] if find_spec("flash_attn") is None else ["flash-attn"]
    found += ["varlen"] if _has_varlen() else []
    return ["sdpa", *found] if torch.cuda.get_device_capability() >= (9, 0) else [*found, "sdpa"]


def _has_varlen() -> bool:
    """Return whether PyTorch has it, with keys of a sequence split over multiprocessors: 2.13 on.

    Without the split a decode of a few sequences would leave most of the GPU idle, which no engine does.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ModuleNotFoundError:
        return False
    return "num_splits" in signature(varlen_attn).parameters


Varlen = Callable[..., object]
"""``(queries, keys, values, query_ends, key_ends, most_queries, most_keys, window)``: causal attention."""


def _torch_varlen() -> Varlen:
    from torch.nn.attention.varlen import varlen_attn

    def call(*inputs: Any) -> object:
        *tensors, window = inputs
        left = -1 if window is None else window - 1
        found: object = varlen_attn(*tensors, window_size=(left, 0), enable_gqa=True)
        return found

    return call


def _flash_attn() -> Varlen:
    from flash_attn import flash_attn_varlen_func

    def call(*inputs: Any) -> object:
        *tensors, window = inputs
        left = -1 if window is None else window - 1
        found: object = flash_attn_varlen_func(*tensors, causal=True, window_size=(left, 0))
        return found

    return call


def joint(torch: Any, function: Varlen, kernel: Attention, normal: Normal) -> Call:
    """Return the call of *kernel* with all sequences in one: decodes, then the chunk."""
    lengths = kernel.lengths
    queries = normal(sum(each for each, _ in lengths), kernel.heads, kernel.head_dim)
    keys, values = (normal(kernel.cached_tokens, kernel.kv_heads, kernel.head_dim) for _ in range(2))
    ends = [
        torch.tensor([0, *accumulate(each)], dtype=torch.int32, device=queries.device)
        for each in zip(*lengths, strict=True)
    ]
    most = [max(each) for each in zip(*lengths, strict=True)]
    return lambda: function(queries, keys, values, *ends, *most, kernel.window)


def _sdpa(torch: Any, kernel: Attention, normal: Normal) -> Call:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    attend = torch.nn.functional.scaled_dot_product_attention
    order = [getattr(SDPBackend, f"{name}_ATTENTION") for name in ("CUDNN", "FLASH", "EFFICIENT")]
    calls: list[Call] = []

    def add(sequences: int, queries: int, keys: int, *, causal: bool = False) -> None:
        query = normal(sequences, kernel.heads, queries, kernel.head_dim)
        key, value = (normal(sequences, kernel.kv_heads, keys, kernel.head_dim) for _ in range(2))
        calls.append(lambda: attend(query, key, value, is_causal=causal, enable_gqa=True))

    def call() -> list[object]:
        with sdpa_kernel([*order, SDPBackend.MATH], set_priority=True):
            return [each() for each in calls]

    if kernel.sequences:
        add(kernel.sequences, *kernel.lengths[0])
    if kernel.chunk:
        # These kernels count a causal mask from the first key: the keys before the chunk, which every query sees, are
        # a kernel of their own. The sum of both results, weighted, is left out.
        if before := kernel.lengths[-1][1] - kernel.chunk:
            add(1, kernel.chunk, before)
        add(1, kernel.chunk, kernel.chunk, causal=True)
    return call
