"""What runs on the word of a row, each function in a process of its own (`processes`): nothing of the program is imported."""
