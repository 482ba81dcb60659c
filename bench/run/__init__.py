"""Execution of a run: configuration, run id, metered adaptation, test and result. Also grids of runs."""
