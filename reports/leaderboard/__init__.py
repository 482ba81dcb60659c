"""Leaderboard of finished runs: comparison tables, and the pages committed in reports/."""
