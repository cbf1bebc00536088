"""Computes on the knowledge graph."""
