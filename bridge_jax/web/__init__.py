"""Behind `serve`: what stands on the page, and who answers its questions."""
