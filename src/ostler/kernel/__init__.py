"""The alphabet every other ring is written in: ids, events, codec, decider, errors. Pure."""
