"""Behind `train`: the story of a run (`trainer`), and what its loop stands on."""
