"""Weight space: points as lists of (seed, amplitude), the noise they stand for, and moving a model to them."""
