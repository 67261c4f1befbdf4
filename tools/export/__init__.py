"""Export of embeddings as shards, and of trained runs as models with a model card."""
