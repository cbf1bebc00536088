"""Which model answers, and why: candidates, strategies and the choice among them."""
