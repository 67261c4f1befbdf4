"""Bridges between frozen biomedical foundation models."""

__version__ = "0.1.0"
