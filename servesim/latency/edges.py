"""Where prices went beyond what was measured: for the provenance of a result."""

from __future__ import annotations


class Edges:
    """The shapes that lay beyond the last point of an axis, by axis.

    Examples
    --------
    >>> edges = Edges()
    >>> edges.note("tokens", 2048, 100)
    >>> edges.note("tokens", 2048, 4096)
    >>> edges.beyond
    {'tokens': {'measured_to': 2048.0, 'used_to': 4096.0, 'prices': 1}}
    """

    __slots__ = ("beyond",)

    def __init__(self) -> None:
        self.beyond: dict[str, dict[str, float]] = {}

    def note(self, axis: str, edge: float, value: float) -> None:
        """Count a price at *value* if that lies beyond *edge*."""
        if value <= edge:
            return
        known = self.beyond.setdefault(
            axis, {"measured_to": float(edge), "used_to": float(value), "prices": 0}
        )
        known["used_to"] = max(known["used_to"], float(value))
        known["prices"] += 1
