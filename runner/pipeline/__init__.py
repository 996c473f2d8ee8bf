"""A run: how it begins or is resumed, what is still to be done, and the doing of it, bounded in flight."""
