"""Conversion of released BioBridge weights to runs and back."""
