"""From answers to decisions: statistics of what a run has found, and what they allow to say."""
