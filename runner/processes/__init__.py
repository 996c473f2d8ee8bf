"""Processes for what cannot be interrupted: a pool of them here, what runs in one of them there (`child`)."""
