"""From answers to decisions: statistics of the results of runs, and what can be concluded from them."""
