"""Plugins that break their contract, one rule each. The class's docstring is what the
check must say, with three dots for what does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import polars as pl

from servesim.latency.api import UNLIMITED_STEPS
from servesim.policies.api import reveal_output_tokens

_CALLS = itertools.count()
"""State outside of the objects: what makes a decision unrepeatable."""


class _Router:
    def reset(self, context):
        self.next = 0

    def route(self, request, replicas):
        return 0


class VariableKeywords(_Router):
    """the constructor takes **parameters"""

    def __init__(self, **parameters):
        self.parameters = parameters


class Positional(_Router):
    """parameter 'depth' can be given by position"""

    def __init__(self, depth=2):
        self.depth = depth


class NotStored(_Router):
    """parameter 'depth' is not stored"""

    def __init__(self, *, depth: int = 2):
        self._depth = depth


class Converted(_Router):
    """the constructor changes parameter 'weights'"""

    def __init__(self, *, weights: list[float] | None = None):
        self.weights = list(weights or [])


class DefaultReplaced(_Router):
    """the constructor changes parameter 'weights' (got 'even' for None)"""

    def __init__(self, *, weights: str | None = None):
        self.weights = weights or "even"


class StateInConstructor(_Router):
    """the constructor sets what is no parameter (got next)"""

    def __init__(self, *, depth: int = 2):
        self.depth = depth
        self.next = 0


class WrongHint(_Router):
    """parameters do not pass their own type hints"""

    def __init__(self, *, depth: int = "two"):
        self.depth = depth


class NotPicklable(_Router):
    """cannot be pickled"""

    def __init__(self, *, score: object = lambda replica: replica.index):
        self.score = score


class ShyRepr(_Router):
    """its repr leaves out a parameter (got ShyRepr()). expected depth=2"""

    def __init__(self, *, depth: int = 2):
        self.depth = depth

    def __repr__(self):
        return "ShyRepr()"


class NoReset:
    """has no method reset"""

    def route(self, request, replicas):
        return 0


class Unrepeatable(_Router):
    """two copies decide differently"""

    def route(self, request, replicas):
        return next(_CALLS) % len(replicas)


class Forgetful(_Router):
    """decide differently"""

    def reset(self, context):
        self.seen = getattr(self, "seen", 0)

    def route(self, request, replicas):
        self.seen += 1
        return (self.seen // 7) % len(replicas)


class OutOfRange(_Router):
    """chooses a replica that does not exist (got 1). expected an integer from 0 to 0 with 1"""

    def route(self, request, replicas):
        return 1


class Negative(_Router):
    """chooses a replica that does not exist (got -1)"""

    def route(self, request, replicas):
        return -1


class NotAnInteger(_Router):
    """chooses a replica that does not exist (got 0.0)"""

    def route(self, request, replicas):
        return 0.0


class TooFewReplicas(_Router):
    """route fails (got IndexError"""

    def route(self, request, replicas):
        return min(0, 1, key=lambda index: replicas[index].waiting_requests)


class ChangesReplicas(_Router):
    """route changes what it is shown"""

    def route(self, request, replicas):
        replicas.requests._values[0] += 1
        return 0


class ChangesRequest(_Router):
    """route changes what it is shown"""

    def route(self, request, replicas):
        request._request.priority -= 1
        return 0


class SetsView(_Router):
    """route fails (got AttributeError"""

    def route(self, request, replicas):
        request.priority = 0
        return 0


class Peeks(_Router):
    """looks at the true output length"""

    def route(self, request, replicas):
        return reveal_output_tokens(request) % len(replicas)


class _Scheduler:
    def reset(self, context):
        pass


class NotANumber(_Scheduler):
    """key answers no usable number (got nan)"""

    def key(self, request):
        return float("nan")


class Text(_Scheduler):
    """key answers no usable number (got 'late')"""

    def key(self, request):
        return "late"


class PeekingScheduler(_Scheduler):
    """looks at the true output length"""

    def key(self, request):
        return reveal_output_tokens(request)


class ChangesKeyed(_Scheduler):
    """key changes the request"""

    def key(self, request):
        request._request.prompt_tokens = 1
        return 0.0


class PredictsNothing(_Scheduler):
    """predict answers no usable number (got 0)"""

    def predict(self, request):
        return 0


class _Latency:
    def reset(self, context):
        self.limit = context.max_num_seqs


class NoTime(_Latency):
    """cannot price ... (got (0.0, 0.0,"""

    def price(self, batch):
        return 0.0, 0.0, UNLIMITED_STEPS


class Shrinks(_Latency):
    """cannot price ... (got (1.0, -0.5,"""

    def price(self, batch):
        return 1.0, -0.5, UNLIMITED_STEPS


class NoSteps(_Latency):
    """cannot price ... (got (1.0, 0.0, 0)"""

    def price(self, batch):
        return 1.0, 0.0, 0


class HalfASteps(_Latency):
    """cannot price ... (got (1.0, 0.0, 1.5)"""

    def price(self, batch):
        return 1.0, 0.0, 1.5


class NotATriple(_Latency):
    """cannot price ... (got 1.0)"""

    def price(self, batch):
        return 1.0


class HiddenGrowth(_Latency):
    """does not hold after 1 steps"""

    def price(self, batch):
        return 1.0 + 1e-3 * batch.context_tokens, 0.0, UNLIMITED_STEPS


class FalselyUnlimited(_Latency):
    """does not hold after ... since valid_steps is"""

    def price(self, batch):  # flat from 4,500 tokens on, which the price does not tell
        return 1.0 + 1e-6 * min(batch.context_tokens, 4500), 1e-6 * batch.sequences, UNLIMITED_STEPS


class CheaperWhenBusy(_Latency):
    """more work takes less time"""

    def price(self, batch):
        return 1.0 / (1 + batch.sequences + len(batch.chunks)), 0.0, UNLIMITED_STEPS


class ChangesBatch(_Latency):
    """price changes the batch"""

    def price(self, batch):
        batch.sequences += 1
        return 1.0, 0.0, UNLIMITED_STEPS


class Drifts(_Latency):
    """differently each time"""

    def price(self, batch):
        return 1.0 + next(_CALLS), 0.0, UNLIMITED_STEPS


class _Generator:
    requests = None
    duration_s = None

    def table(self):
        return {"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 2], "output_tokens": [3, 4]}

    def frames(self, seed) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame(self.table())


class UnknownColumn(_Generator):
    """columns do not follow the schema"""

    def table(self):
        return {**super().table(), "colour": ["red", "blue"]}


class MissingColumn(_Generator):
    """columns do not follow the schema"""

    def table(self):
        return {"arrival_s": [0.0]}


class Backwards(_Generator):
    """row 2: arrival_s is out of order (got 0.0 after 1.0)"""

    def table(self):
        return {**super().table(), "arrival_s": [1.0, 0.0]}


class BeforeZero(_Generator):
    """arrival_s: before time 0 (got -1.0)"""

    def table(self):
        return {**super().table(), "arrival_s": [-1.0, 0.0]}


class NotATime(_Generator):
    """row 2: arrival_s: unusable value (got nan)"""

    def table(self):
        return {**super().table(), "arrival_s": [0.0, float("nan")]}


class EmptyOutput(_Generator):
    """row 2: output_tokens: unusable value (got 0)"""

    def table(self):
        return {**super().table(), "output_tokens": [1, 0]}


class HalfTokens(_Generator):
    """row 1: prompt_tokens: unusable value (got 1.5)"""

    def table(self):
        return {**super().table(), "prompt_tokens": [1.5, 2.0]}


class TooMany(_Generator):
    """more requests than `requests` says"""

    requests = 1


class TooLate(_Generator):
    """a request arrives at `duration_s` or later"""

    duration_s = 1.0


class NoFrames(_Generator):
    """yields no frame"""

    def frames(self, seed):
        return iter(())


class Unbounded(_Generator):
    """has no attribute duration_s"""

    @property
    def duration_s(self):
        raise AttributeError


class Unseeded(_Generator):
    """two copies make different requests"""

    def table(self):
        return {**super().table(), "prompt_tokens": [1, 2 + next(_CALLS)]}


class Rescaled(_Generator):
    """a longer run does not begin with the requests of a shorter one"""

    def __init__(self, *, requests: int = 5):
        self.requests = requests

    def table(self):
        rows = range(self.requests)
        tokens = [1] * self.requests
        return {
            "arrival_s": [row / self.requests for row in rows],
            "prompt_tokens": tokens,
            "output_tokens": tokens,
        }


class _Reader:
    def __init__(self):
        self.notes = {}


class EagerReader(_Reader):
    """read answers no frame (got DataFrame)"""

    def read(self):
        return pl.DataFrame(_Generator().table())


class Noteless:
    """has no notes"""

    def read(self):
        return pl.LazyFrame(_Generator().table())


class Moody(_Reader):
    """reads different requests from one file"""

    def read(self):
        return pl.LazyFrame({**_Generator().table(), "prompt_tokens": [1, 2 + next(_CALLS)]})


class Miscounts(_Reader):
    """counts differ between reads"""

    def read(self):
        self.notes["rows"] = next(_CALLS)
        return pl.LazyFrame(_Generator().table())


class OddColumns(_Reader):
    """columns do not follow the schema"""

    def read(self):
        return pl.LazyFrame({"arrival_s": [0.0]})


PARAMETERS = {Converted: {"weights": [1.0]}}
"""What a class is built with, where its defaults would not show its fault."""

BROKEN = [
    value
    for name, value in list(globals().items())
    if isinstance(value, type) and value.__module__ == __name__ and not name.startswith("_")
]
