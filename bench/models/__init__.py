"""Models by name: where one comes from, how it becomes a checkpoint folder, what identifies its weights."""
