"""Workload generators and the distributions they draw from, found by name through `servesim.workload.registries`."""
