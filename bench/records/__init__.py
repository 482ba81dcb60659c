"""Files of a run: the journal, written during the run, and the result, written at its end."""
