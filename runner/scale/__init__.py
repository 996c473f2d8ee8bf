"""One run on many processes: who has which rows, and what a worker of it is."""
