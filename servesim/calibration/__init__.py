"""Calibration: parameters of a latency model and an engine's host, fitted to measured runs by simulating them."""

from servesim.calibration.calibrate import calibrate
from servesim.calibration.result import CalibrationResult

__all__ = ["CalibrationResult", "calibrate"]
