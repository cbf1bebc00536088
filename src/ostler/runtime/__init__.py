"""The imperative shell: performs what the domain decides, and writes down what came of it."""
