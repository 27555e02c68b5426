"""Trace readers: one module per format, found by name through `servesim.workload.registries`."""
