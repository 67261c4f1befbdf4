"""Nearest-neighbour retrieval: node lookup, exact and FAISS indexes, result files."""
