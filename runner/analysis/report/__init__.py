"""A report of one run: its scores, its errors, its times, and every answer that fits into one file."""
