"""The files of a run: the journal, which is the truth, and the views made from it."""
