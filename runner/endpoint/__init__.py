"""The way to the endpoint and back, from the retry layer down to the socket."""
