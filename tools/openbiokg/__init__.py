"""Sources of the OpenBioKG graph, one module each, and their assembly into one graph."""
