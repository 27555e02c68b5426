"""Number formats: how much memory an element takes, and in which format the GPU multiplies it.

Accuracy is no subject here, nor is which engine supports which format on which GPU.
"""

from __future__ import annotations

from servesim.errors import ScenarioError, nearest

BYTES_PER_ELEMENT: dict[str, float] = {
    "fp32": 4.0,
    "tf32": 4.0,
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,  # one scale per tensor, channel or 128 x 128 block: below 0.03 %, left out
    "int8": 1.0,
    "int4": 4.5 / 8,  # 4 bits and a 16-bit scale per 32 elements
    "mxfp4": 4.25 / 8,  # 4 bits and an 8-bit scale per 32 elements (OCP MX specification 1.0)
    "nvfp4": 4.5 / 8,  # 4 bits and an 8-bit scale per 16 elements
}
"""Bytes of one weight, scales included."""

COMPUTE_DTYPE: dict[str, str] = {
    "fp32": "fp32",
    "tf32": "tf32",
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8",
    "int8": "int8",
    "int4": "bf16",  # weight-only: unpacked before the multiplication
    "mxfp4": "bf16",  # weight-only, as vLLM serves gpt-oss with 16-bit activations
    "nvfp4": "fp4",
}
"""Format in which weights of a given format are multiplied."""

DTYPES = tuple(dtype for dtype in BYTES_PER_ELEMENT if dtype != "tf32")
"""Formats that weights may have: tf32 is none, but how 32 bits are multiplied."""

KV_DTYPES = ("fp32", "bf16", "fp16", "fp8", "int8")
"""Formats that a KV cache may have."""


def check_dtype(dtype: str, where: str, known: tuple[str, ...] = DTYPES) -> str:
    """Return *dtype* if it is *known*.

    Raises
    ------
    ScenarioError
        If it is not; *where* begins the message.
    """
    if dtype not in known:
        raise ScenarioError(
            f"{where}: unknown number format (got {dtype!r}). expected one of {', '.join(known)}.",
            hint=nearest(dtype, known),
        )
    return dtype
