"""Where requests come from: trace readers, generators, and what can be done to their streams."""
