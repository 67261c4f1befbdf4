"""A run: its config, dataset and model together, its folder, checkpoints and metrics."""
