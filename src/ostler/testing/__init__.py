"""What users need to test their agents, tools and back ends: scripted models and contract suites."""

from ostler.testing.scripted import Scripted, calls

__all__ = ["Scripted", "calls"]
