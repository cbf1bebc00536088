"""Read models: computed from the log, deleted and rebuilt at will."""
