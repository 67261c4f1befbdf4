"""Import of graphs and embeddings: node matching, splitting and writing of datasets."""
