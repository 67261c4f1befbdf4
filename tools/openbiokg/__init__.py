"""The sources of OpenBioKG, one file each, and what joins them to one graph."""
