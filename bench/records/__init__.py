"""What a run leaves on disk: the journal while it lives, the result when it ends."""
