"""Trackers: the curves and results of runs in wandb, mlflow, trackio and tensorboard. See docs/trackers.md."""
