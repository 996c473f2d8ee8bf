"""What a server said: its body or stream as a response, or its refusal as an error."""
