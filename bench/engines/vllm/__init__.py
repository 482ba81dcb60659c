"""The vLLM engine: every call into vLLM stands in this folder."""
