"""Cells of a grid as jobs: child processes, Slurm, Ray."""
