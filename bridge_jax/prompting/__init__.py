"""Behind `prompt`: a node's surroundings put into words, and what a language model says to it."""
