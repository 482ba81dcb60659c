"""Post-training methods behind one interface; see `methods.interface`."""
