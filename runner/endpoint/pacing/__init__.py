"""When a request is sent, and when it is sent again: retries, whose fault a failure is, and every limit."""
