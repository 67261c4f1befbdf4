"""Studies: each file is a config and a `sweep()` of settings to compare."""
