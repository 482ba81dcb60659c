"""Analysis of finished runs: split halves, density of good perturbations, power of gates. See docs/analysis.md.

Functions take arrays and return numbers. They run no model.
"""
