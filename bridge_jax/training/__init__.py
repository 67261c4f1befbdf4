"""Training: the loop (`trainer`), what happens around its steps (`hooks`), and the loss."""
