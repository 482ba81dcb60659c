"""Comparison of two runs, item by item."""
