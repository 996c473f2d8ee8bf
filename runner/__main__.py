"""`python -m runner`."""

from runner.cli import program

program()
