"""Code that runs in the sandbox's own processes. It imports only the standard library."""
