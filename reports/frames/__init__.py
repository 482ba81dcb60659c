"""Runs as tables: one line for each run, row, answer, candidate, step, account or trial.

`bench.read` returns them as pandas DataFrames, and `bench export-data` writes them as parquet files.
"""

from reports.frames.frames import Frames, read, write

__all__ = ["Frames", "read", "write"]
