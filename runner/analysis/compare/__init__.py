"""Two runs of one evaluation side by side: what is better, what is worse, and what cannot be told."""
