"""Reading answers: pure functions from a text to what its writer meant, or None if that is unclear."""
