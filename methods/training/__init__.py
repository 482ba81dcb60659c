"""Post-training by gradients: TRL's trainers, within the budget and by the meter of every other method."""
