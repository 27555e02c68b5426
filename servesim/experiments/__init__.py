"""Experiments: many runs that answer one question, and the statistics of what they gave."""
