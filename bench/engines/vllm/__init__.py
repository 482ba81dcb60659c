"""The vLLM engine. Only this folder imports vLLM."""
