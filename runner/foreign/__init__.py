"""Code that runs on the content of rows, in other processes (`processes`). It imports nothing else of this program."""
