"""A run: how it begins or is resumed, which units are pending, and the pipeline that runs them, bounded in flight."""
