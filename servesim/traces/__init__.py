"""Looking at traces: what a file is, its statistics and defects, other forms of it, and where it is published."""
