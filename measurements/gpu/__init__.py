"""Check of a GPU: `python -m measurements.gpu -o gpu.json`, at most eight minutes, nothing from a network."""
