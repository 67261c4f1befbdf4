"""Behind `project`: what is read, carried over and written, part by part."""
