"""Every registered plugin against the contract of its kind, and plugins that break it."""
