"""One run in many processes: which worker has which rows, and how a worker starts, runs and reports."""
