"""Engines: models that generate, move through weight space, and book what they compute."""
