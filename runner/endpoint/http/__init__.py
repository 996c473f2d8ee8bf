"""Exchanges bytes with a server: two transports, connections, timeouts, encodings."""
