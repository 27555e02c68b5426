"""The options of ``servesim profile``; what it does is in `servesim.cli.profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servesim.cli.options import AsJson, Quiet

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Name of the catalog, or the path of a Hugging Face config.json: its shapes are measured.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for the tables. One that this command began is gone on with.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="List what would be measured, and for how long; needs no GPU.")
]
GpuName = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="NAME",
        help="The GPU's name in the catalog; else told by the driver.",
        show_default=False,
    ),
]
Degrees = Annotated[
    str,
    typer.Option(
        metavar="N,N",
        help="Degrees of tensor parallelism. One GPU measures the share of each; sums need as many.",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Number format of the weights: bf16, fp16, fp8; else the model's own.",
        show_default=False,
    ),
]
MaxTokens = Annotated[
    int, typer.Option(metavar="N", min=16, help="Most tokens of a step, and so of a chunk.")
]
MaxSeqs = Annotated[int, typer.Option(metavar="N", min=1, help="Most sequences of a step.")]
MaxContext = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=16, help="Longest context in tokens; else the model's.", show_default=False
    ),
]
AttentionName = Annotated[
    str | None,
    typer.Option(
        "--attention",
        metavar="NAME",
        help="Attention kernels: flash-attn, varlen or sdpa (both PyTorch's); else the first that is there.",
        show_default=False,
    ),
]
Precision = Annotated[
    float,
    typer.Option(metavar="RATIO", help="Half of the 95 % interval of a median, at which a row is done."),
]
Budget = Annotated[float, typer.Option(metavar="S", help="Most seconds for the timings of a row.")]
Load = Annotated[
    float,
    typer.Option(
        metavar="S", min=0, help="Seconds that each load lasts for power, clock and speed; 0: none."
    ),
]
Seed = Annotated[
    int, typer.Option(metavar="N", min=0, help="Of the order of the rows and of the kernels' inputs.")
]


def profile(
    model: Model,
    out: Out = None,
    dry_run: DryRun = False,
    gpu: GpuName = None,
    tensor_parallel: Degrees = "1",
    dtype: Dtype = None,
    max_tokens: MaxTokens = 8192,
    max_seqs: MaxSeqs = 256,
    max_context: MaxContext = None,
    attention: AttentionName = None,
    precision: Precision = 0.01,
    budget: Budget = 2.0,
    load: Load = 10.0,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Measure the kernels of a model on the GPU of this machine.

    Writes tables of matrices, attention, experts and sums over GPUs, which the latency model table reads, and power.
    Needs PyTorch (pip install 'servesim[profile]') and an NVIDIA GPU. Ctrl-C loses nothing.
    """
    from servesim.cli.profile import Method, Subject, list_plan, profile_gpu

    subject = Subject(
        model=model,
        dtype=dtype,
        tensor_parallel=tensor_parallel,
        gpu=gpu,
        max_tokens=max_tokens,
        max_seqs=max_seqs,
        max_context=max_context,
    )
    method = Method(attention=attention, precision=precision, budget_s=budget, load_s=load, seed=seed)
    if dry_run:
        return list_plan(subject, method, as_json=as_json)
    return profile_gpu(subject, method, out=out, as_json=as_json, quiet=quiet)
