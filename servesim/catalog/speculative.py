"""Speculative decoding: what drafts, how many tokens, and how many of them are accepted.

``speculative.toml`` has measured acceptance lengths by name. A drafted token is accepted with the same probability a,
given that all before it were, so that a step of k drafted tokens emits 1 + a + ... + a^k tokens on average (Leviathan,
Kalman, Matias: "Fast inference from transformers via speculative decoding", ICML 2023).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from servesim.catalog.architecture import ModelArchitecture
from servesim.errors import ScenarioError, nearest

Method = Literal["mtp", "eagle", "eagle3", "draft_model", "ngram"]

MTP_MODELS = ("deepseek-v3",)
"""Catalog models with layers that predict further tokens: ``num_nextn_predict_layers`` of their config.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """How an engine drafts.

    Attributes
    ----------
    method
        What drafts: a layer of the model (mtp), a trained layer beside it (eagle, eagle3), a smaller model, or a
        look-up of n-grams on the host.
    draft_tokens
        Tokens drafted for every sequence in each step.
    acceptance_ratio
        Probability that a drafted token is accepted, given that all before it were.
    draft
        The smaller model, or None.
    """

    method: Method
    draft_tokens: int
    acceptance_ratio: float
    draft: ModelArchitecture | None = None

    @property
    def step_tokens(self) -> int:
        """Tokens that a step computes for every decoding sequence: the last one emitted, and the drafted ones."""
        return 1 + self.draft_tokens

    @property
    def slot_tokens(self) -> int:
        """Slots of the KV cache that a step needs beyond a sequence's context: as many again for what then drafts.

        So vLLM V1 has it: ``num_lookahead_tokens`` in ``vllm/v1/core/sched/scheduler.py``.
        """
        return self.step_tokens + (0 if self.method == "ngram" else self.draft_tokens)

    @property
    def acceptance_length(self) -> float:
        """Mean number of tokens that a step emits for a sequence."""
        return length_of(self.acceptance_ratio, self.draft_tokens)

    @property
    def has_layer(self) -> bool:
        """Whether a layer of the model's own shape drafts."""
        return self.method in ("mtp", "eagle", "eagle3")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredAcceptance:
    """Mean acceptance lengths of a model and method; entry i is that of i + 1 drafted tokens."""

    method: Method
    measured_on: str
    lengths: tuple[float, ...]
    source: str


def measured_acceptance(name: str) -> MeasuredAcceptance:
    """Return the measured acceptance lengths called *name*.

    Raises
    ------
    ScenarioError
        If the catalog has none.

    Examples
    --------
    >>> measured_acceptance("glm-5.2-mtp-thinking-on").lengths[2]
    2.99
    """
    entries = _entries()
    if name not in entries:
        raise ScenarioError(
            f"acceptance: not in the catalog (got {name!r}). expected one of {', '.join(entries)}.",
            hint=nearest(name, entries),
        )
    return entries[name]


def length_of(ratio: float, draft_tokens: int) -> float:
    """Return the mean acceptance length 1 + a + ... + a^k of probability a and k drafted tokens.

    Examples
    --------
    >>> length_of(0.5, 2)
    1.75
    """
    return sum(ratio**drafted for drafted in range(draft_tokens + 1))


def ratio_of(length: float, draft_tokens: int) -> float:
    """Return the probability whose mean acceptance length is *length*, in 1 to 1 + *draft_tokens*: by bisection.

    Examples
    --------
    >>> round(ratio_of(1.75, 2), 12)
    0.5
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if length_of(middle, draft_tokens) < length:
            low = middle
        else:
            high = middle
    return high


@cache
def _entries() -> dict[str, MeasuredAcceptance]:
    data = tomllib.loads((files(__package__) / "speculative.toml").read_text(encoding="utf-8"))
    return {
        name: MeasuredAcceptance(**{**entry, "lengths": tuple(entry["lengths"])})
        for name, entry in data.items()
    }
