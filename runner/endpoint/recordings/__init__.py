"""Recordings: the recorder keeps every exchange on disk, and the replayer answers from them without a network.

Both take the place of the transport, so that client, retry and limits run for real. The format is that of llama-stack (now
OGX), `tests/integration/.../recordings`: one JSON object for each exchange, in a file named by the hash of its request. If the
path ends in `.jsonl`, each line is one. Headers are never kept. llama-stack's own recorder also finds the first recording of
each body.
"""
