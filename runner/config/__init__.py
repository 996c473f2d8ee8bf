"""The config file: its text, its sections, and every mistake in it at once."""
