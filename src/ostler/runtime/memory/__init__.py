"""Memories at work: written, found again, turned into vectors and consolidated."""
