"""Post-training methods. Each implements the interface in `methods.interface`."""
