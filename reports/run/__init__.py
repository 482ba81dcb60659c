"""One run in full: what was configured, how it went, and what came of it."""
