"""Bytes to a server and back: two transports, connections, time limits, encodings."""
