"""Scoring a population of perturbations within a budget: all of it, or in a race with early elimination."""
