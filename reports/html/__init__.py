"""HTML pages for the leaderboard and for each run: one self-contained file each, which needs no server or network.

The same records always give the same bytes.
"""
