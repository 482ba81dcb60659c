"""Pages that need no server and no network: the board and each run, as one HTML file each. Same input, same bytes."""
