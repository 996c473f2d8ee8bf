"""What runs on the word of a row, apart from the program (`processes`): nothing of the program is imported here."""
