"""Secrets in any form: how they are found, and removed from everything that is kept or shown."""
