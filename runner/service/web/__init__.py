"""Pages to watch the service with: evaluations, their items, two of them compared, the endpoints."""
