"""Task adapters: data, prompt and one scorer each; see `tasks.interface`. They load neither torch nor vllm."""
