"""Everything between the pipeline and the endpoint, from the retry layer down to the socket."""
