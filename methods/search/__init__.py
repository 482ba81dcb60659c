"""Scoring of a population of perturbations within a budget: in full, or as a race with early elimination."""
