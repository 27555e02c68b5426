"""Sums over several GPUs: a process for each, this one the first, joined by ``torch.distributed``.

What the others do, they are told through pipes. A small sum before each timing lets all begin together.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from servesim.errors import ServesimError
from servesim.profiler.kernels import AllReduce

BACKENDS = {"cuda": "nccl", "cpu": "gloo"}
TIMEOUT_S = 120
"""For processes to come, and for a sum to end."""

END_S = 10
"""For a process to end when it is told to."""


class Ranks:
    """*count* processes on as many devices of *kind*.

    Raises
    ------
    ServesimError
        If they do not come together.
    """

    def __init__(self, torch: Any, kind: str, count: int) -> None:
        from torch.multiprocessing import get_context

        self.count = count
        self._folder = tempfile.TemporaryDirectory(prefix="servesim-ranks-")
        meeting = (Path(self._folder.name) / "meeting").as_uri()
        context: Any = get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(1, count):
            here, there = context.Pipe()
            process = context.Process(target=_follow, args=(there, kind, rank, count, meeting), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)
        try:
            self._member = _Member(torch, kind, 0, count, meeting)
        except (RuntimeError, ValueError) as error:
            self.end()
            raise ServesimError(
                f"profile: {count} processes do not come together (got {error}). expected a GPU for each"
            ) from error

    def prepare(self, kernel: AllReduce) -> None:
        """Make the numbers to sum, everywhere."""
        self._tell(("prepare", kernel.tokens * kernel.width))
        self._member.prepare(kernel.tokens * kernel.width)

    def begin(self) -> None:
        """Let all processes begin the next sum together; each waits for it on its device."""
        self._tell(("reduce", 0))
        self._member.meet()

    def reduce(self) -> None:
        """Sum, here: the others do it after `begin`."""
        self._member.reduce()

    def end(self) -> None:
        """End the other processes."""
        with suppress(OSError):
            self._tell(("end", 0))
        for process in self._processes:
            process.join(END_S)
            if process.is_alive():
                process.terminate()
        if hasattr(self, "_member"):
            self._member.end()
        self._folder.cleanup()

    def _tell(self, what: tuple[str, int]) -> None:
        for pipe in self._pipes:
            pipe.send(what)


class _Member:
    """One process's part."""

    def __init__(self, torch: Any, kind: str, rank: int, count: int, meeting: str) -> None:
        from torch import distributed

        self._torch, self._distributed = torch, distributed
        self._device = f"cuda:{rank}" if kind == "cuda" else kind
        if kind == "cuda":
            torch.cuda.set_device(rank)
        distributed.init_process_group(
            BACKENDS[kind],
            init_method=meeting,
            rank=rank,
            world_size=count,
            timeout=timedelta(seconds=TIMEOUT_S),
        )
        self._small = torch.ones(1, device=self._device)

    def prepare(self, elements: int) -> None:
        self._values = self._torch.ones(elements, dtype=self._torch.bfloat16, device=self._device)

    def meet(self) -> None:
        self._distributed.all_reduce(self._small.fill_(1.0))

    def reduce(self) -> None:
        # The largest instead of the sum, which takes as long: values stay what they are.
        self._distributed.all_reduce(self._values, op=self._distributed.ReduceOp.MAX)

    def end(self) -> None:
        self._distributed.destroy_process_group()


def _follow(pipe: Any, kind: str, rank: int, count: int, meeting: str) -> None:
    """Do what the first process tells, until it says the end or is gone."""
    import torch

    member = _Member(torch, kind, rank, count, meeting)
    with suppress(EOFError, KeyboardInterrupt):
        while (told := pipe.recv())[0] != "end":
            if told[0] == "prepare":
                member.prepare(told[1])
            else:
                member.meet()
                member.reduce()
    member.end()
