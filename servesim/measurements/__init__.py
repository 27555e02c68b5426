"""Measurements of real engines: one representation of what was measured, and readers of the files that hold it."""

from servesim.measurements.read import read_measured
from servesim.measurements.workload import Deployment, MeasuredRun

__all__ = ["Deployment", "MeasuredRun", "read_measured"]
