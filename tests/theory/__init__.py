"""Queueing theory: cases that have an exact solution, simulated with the whole program."""
