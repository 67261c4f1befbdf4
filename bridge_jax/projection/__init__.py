"""Projection of embedding libraries: sources, output formats, and the work of one process."""
