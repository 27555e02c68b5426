"""Golden results: what some scenarios gave when a person last looked at them."""
