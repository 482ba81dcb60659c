"""Compute accounting: what a run cost, in integers, and what that is in FLOPs."""
