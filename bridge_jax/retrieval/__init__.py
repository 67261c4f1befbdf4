"""Behind `retrieve`: names looked up, keys searched, answers written."""
