"""The command line: one file for each command, arguments in, text and an exit code out."""
