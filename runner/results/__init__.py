"""The views of a run for people: progress, the closing summary, evaluation.json, DataFrames."""
