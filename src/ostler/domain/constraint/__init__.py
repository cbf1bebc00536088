"""Rules about calls: the language they are written in, and what a policy of them says of one call."""
