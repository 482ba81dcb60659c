"""Weight space: points as lists of (seed, amplitude), the noise of a seed, and moving a model to a point."""
