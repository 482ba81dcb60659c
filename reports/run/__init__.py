"""Report on one run: its configuration, its training history and its results."""
