"""Readers of entities to encode: tables, FASTA, SMILES files, SDF and Parquet."""
