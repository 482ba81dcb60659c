"""What runs tell of the landscape around a base: shared structure, density of good perturbations, power of gates.

Arrays in, figures out; nothing here answers a prompt. What each figure means is told in docs/analysis.md.
"""
