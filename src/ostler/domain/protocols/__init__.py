"""How an agent reasons: each protocol is a pure function of the session's state."""
