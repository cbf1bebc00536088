"""The demonstration: an agent repairs a small project while everything that can go wrong on the way does."""
