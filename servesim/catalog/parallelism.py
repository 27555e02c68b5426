"""How one replica's weights, sequences and layers are spread over its GPUs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """The degrees of parallelism of a replica, named as vLLM names them.

    Attributes
    ----------
    tensor
        GPUs that each matrix and each KV head is split over.
    data
        Groups of *tensor* GPUs, each with all the attention and some of the sequences. The experts are split over
        all groups.
    pipeline
        Stages of consecutive layers.
    expert
        Whether whole experts, and not slices of each, lie on the GPUs of a stage.
    """

    tensor: int = 1
    data: int = 1
    pipeline: int = 1
    expert: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of the replica."""
        return self.tensor * self.data * self.pipeline

    @property
    def expert_ranks(self) -> int:
        """GPUs that the experts of one layer are split over."""
        return self.tensor * self.data
