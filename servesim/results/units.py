"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

_NONE = "-"


def number_text(value: float | None) -> str:
    """Return *value* with about three significant digits and separated thousands.

    Examples
    --------
    >>> number_text(1234.5), number_text(12.345), number_text(0.0123)
    ('1,234', '12.3', '0.0123')
    """
    if value is None:
        return _NONE
    size = abs(value)
    if size >= 99.95 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}" if size >= 0.9995 else f"{value:.3g}"


def count_text(value: int | None) -> str:
    """Return a whole number with separated thousands."""
    return _NONE if value is None else f"{value:,}"


def ratio_text(value: float | None) -> str:
    """Return a ratio in percent."""
    return _NONE if value is None else f"{value:.1%}"


def latency_unit(values: Sequence[float | None]) -> tuple[str, float]:
    """Return the unit in which latencies in s read best, and the factor from s to it."""
    largest = max((value for value in values if value is not None), default=0.0)
    return ("ms", 1e3) if largest < 1.0 else ("s", 1.0)


def seconds_text(value: float | None) -> str:
    """Return a time in s with a unit that suits it.

    Examples
    --------
    >>> seconds_text(0.0421), seconds_text(3.5), seconds_text(7200)
    ('42.1 ms', '3.50 s', '7,200 s')
    """
    unit, scale = latency_unit([value])
    return _NONE if value is None else f"{number_text(value * scale)} {unit}"


def time_unit(duration_s: float) -> tuple[str, float]:
    """Return the unit in which the times of a run read best, and how many s it has.

    Examples
    --------
    >>> time_unit(371.0), time_unit(3500.0), time_unit(86_400.0)
    (('s', 1.0), ('min', 60.0), ('h', 3600.0))
    """
    for unit, seconds, most_s in (("s", 1.0, 600.0), ("min", 60.0, 3 * 3600.0), ("h", 3600.0, 4 * 86_400.0)):
        if duration_s <= most_s:
            return unit, seconds
    return "days", 86_400.0


def bytes_text(value: int) -> str:
    """Return a size in bytes, KiB, MiB or GiB.

    Examples
    --------
    >>> bytes_text(700), bytes_text(320_117), bytes_text(2**21), bytes_text(3 * 2**29)
    ('700 bytes', '313 KiB', '2 MiB', '1.5 GiB')
    """
    if value < 2**10:
        return f"{value:,} bytes"
    for unit, size in (("KiB", 2**10), ("MiB", 2**20)):
        if round(value / size) < 2**10:
            return f"{value / size:,.0f} {unit}"
    return f"{value / 2**30:,.1f} GiB"
