"""Pages of HTML that stand alone in one file: their frame, their style and their plots."""
