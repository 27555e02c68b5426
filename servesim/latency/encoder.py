"""What an image encoder takes before the language model sees its tokens: an estimate for pools that state none."""

from __future__ import annotations

from servesim.catalog import Gpu

PARAMETERS = 0.67e9
"""Of the encoder of Qwen2.5-VL: 32 layers of width 1,280 (Bai et al., "Qwen2.5-VL Technical Report", 2025,
arXiv 2502.13923)."""

PATCHES_PER_TOKEN = 4
"""Patches that its merger joins to one token of the prompt (same report)."""

EFFICIENCY = 0.4
"""Share of peak FLOP/s that it attains. Assumed, not measured."""


def encoder_s_per_token(gpu: Gpu) -> float:
    """Return the time to encode one prompt token of an image: two operations per parameter and patch.

    Examples
    --------
    >>> from servesim.catalog import gpu
    >>> f"{encoder_s_per_token(gpu('h100-sxm')) * 1e6:.1f} us"
    '13.5 us'
    """
    return 2.0 * PARAMETERS * PATCHES_PER_TOKEN / (EFFICIENCY * gpu.peak_flops_per_s("bf16"))
