"""When a request is sent, and when again: retries, whose fault a failure is, and every limit."""
