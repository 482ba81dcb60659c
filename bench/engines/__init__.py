"""Engines: models that generate text, move through weight space, and record their compute with a meter."""
