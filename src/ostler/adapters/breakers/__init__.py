"""Where the states of circuit breakers are kept."""
