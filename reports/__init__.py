"""From records to tables: readers of run directories that import no engine and no method."""
