"""What an answer says: pure functions from a text to what its writer meant, or None where that cannot be told."""
