"""HTML pages in one self-contained file: their frame, their style and their plots."""
