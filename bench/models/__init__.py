"""Models by name: sources, conversion to a checkpoint folder, and the digest of the weights."""
