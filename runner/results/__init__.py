"""What people see of a run: progress, the closing summary, evaluation.json, DataFrames."""
