"""Checks: expectations of experiments, and the gate that they make for CI."""
