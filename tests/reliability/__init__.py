"""The campaign that measures what the project promises: `python -m tests.reliability [--minutes N] [--only NAME]`."""
