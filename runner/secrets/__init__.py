"""Secrets in whatever form: how they are found, and taken out of what is kept or shown."""
