"""The command line: `main` finds the command, and each command is a file: arguments in, text and an exit code out."""
