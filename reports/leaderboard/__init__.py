"""Finished runs side by side: from records to tables, plots and the committed pages."""
