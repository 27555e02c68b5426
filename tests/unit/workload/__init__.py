"""Tests of servesim.workload."""
