"""Behind `evaluate` and `sweep`: who is compared, what may be mixed in, tables and pictures."""
