"""Tasks: a data set, its prompts and one scorer each. See `tasks.interface`. Importing a task loads no torch or vllm."""
