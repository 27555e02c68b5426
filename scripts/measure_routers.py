"""Measure matrices with weights of 32 bits, as routers of some models are: python scripts/measure_routers.py > FILE.

Needs PyTorch and a GPU. Prints what ``torch.nn.functional.linear`` takes in a CUDA graph, for other weights each time,
so that they come from memory: in full precision (``fp32``) and rounded for the tensor cores (``tf32``, what vLLM calls
``VLLM_FLOAT32_MATMUL_PRECISION=high``). ``routers_h200.csv`` beside this script is from one H200, with PyTorch 2.11 and
CUDA 13.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

SHAPES = ((256, 3072), (128, 4096), (256, 7168), (384, 7168), (1024, 3072), (4096, 4096))
ROWS = tuple(2**power for power in range(14))
PRECISIONS = {"fp32": "highest", "tf32": "high"}
WEIGHTS_BYTES = 130e6
"""More than the second-level cache holds."""


def main() -> None:
    """Print one line per shape and number of rows."""
    import torch

    print("dtype,n,k,m,us")
    for n, k in SHAPES:
        count = max(8, min(40, int(WEIGHTS_BYTES / (n * k * 4))))
        weights = [torch.randn(n, k, device="cuda") for _ in range(count)]
        for dtype, precision in PRECISIONS.items():
            torch.set_float32_matmul_precision(precision)
            for m in ROWS:
                inputs = [torch.randn(m, k, device="cuda") for _ in range(4)]

                def multiply(inputs: list[Any] = inputs, weights: list[Any] = weights) -> None:
                    for i, weight in enumerate(weights):
                        torch.nn.functional.linear(inputs[i % len(inputs)], weight)

                print(f"{dtype},{n},{k},{m},{_graph_us(multiply) / count:.2f}", flush=True)


def _graph_us(run: Callable[[], None]) -> float:
    """Return what a CUDA graph of *run* takes: the median of five replays."""
    import torch

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    times = []
    for _ in range(6):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return float(median(times[1:]))


if __name__ == "__main__":
    main()
