"""A report of one run: what it found, what went wrong, how long it took, and every answer that fits into one file."""
