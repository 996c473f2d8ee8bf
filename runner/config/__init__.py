"""The config file: its text, what it may say, and every mistake in it at once."""
