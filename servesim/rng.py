"""Random numbers: one seed, and a stream for every named consumer.

Adding a consumer never shifts the numbers of another, because a stream depends on the seed and its own name only.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """Return the random generator that *seed* and *name* stand for.

    Parameters
    ----------
    seed
        The scenario's seed, a non-negative integer.
    name
        What the numbers are for, such as ``("arrivals", "poisson")`` or ``("router", 0)``.

    Examples
    --------
    >>> a, b = stream(0, "arrivals"), stream(0, "arrivals")
    >>> float(a.random()) == float(b.random())
    True
    """
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    words = np.frombuffer(digest[:16], dtype="<u4").tolist()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))


def numbered(key: int, number: int) -> np.random.Generator:
    """Return the random generator of one of many alike: quicker to make than a `stream`, from which *key* is drawn.

    Parameters
    ----------
    key
        Below 2^64.
    number
        Such as that of a request; not negative.

    Examples
    --------
    >>> float(numbered(1, 2).random()) == float(numbered(1, 2).random())
    True
    """
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, number]))
