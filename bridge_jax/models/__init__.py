"""The bridge, its scores, and exported weights: everything between tables and a run."""
