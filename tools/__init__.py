"""Commands that import, export and check datasets and weights, one module each."""
