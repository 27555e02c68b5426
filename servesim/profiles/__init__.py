"""Measured tables: what operators and layers of a model took on a GPU, read from the files of profilers.

A `LayerProfile` is one model on one GPU with one degree of tensor parallelism, whatever profiler wrote it; the
readers are a module per format. How a step is priced from it is `servesim.latency.table`.
"""

from __future__ import annotations

from servesim.profiles.grid import Grid
from servesim.profiles.layer_profile import AttentionProfile, LayerProfile, read_layer_profile

__all__ = ["AttentionProfile", "Grid", "LayerProfile", "read_layer_profile"]
