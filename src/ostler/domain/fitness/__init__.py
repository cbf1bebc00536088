"""Fitness functions: what it means, in numbers, that the system is healthy which agents work on."""
