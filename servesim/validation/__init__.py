"""Measured against simulated: replays of measured runs, their errors, and what they say about a latency model."""

from servesim.validation.result import ValidationResult
from servesim.validation.validate import validate

__all__ = ["ValidationResult", "validate"]
