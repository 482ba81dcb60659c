"""Compute accounting: a run's work as integer counts, and its FLOPs."""
