"""Where memories are found again: views of their streams, by words, by vectors, by relations and by time."""
