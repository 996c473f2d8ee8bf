"""`python -m runner`."""

from runner.cli.main import program

program()
