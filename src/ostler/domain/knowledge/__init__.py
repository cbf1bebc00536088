"""What agents know of things and how they hang together."""
