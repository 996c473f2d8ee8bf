"""Processes for code that cannot be interrupted: the pool (`pool`), and the program that runs in each of them (`child`)."""
