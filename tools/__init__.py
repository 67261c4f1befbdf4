"""Command-line tools that bring data in; the only place where PyTorch may be imported."""
