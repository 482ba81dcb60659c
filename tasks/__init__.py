"""Tasks: a data set, its prompts and one scorer each. See `tasks.interface`. Importing a task does not load torch."""
