"""Reads what a server sent: a body or stream as a Response, a refusal as an AttemptError."""
