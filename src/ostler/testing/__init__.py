"""What users need to test their agents, tools and back ends: scripted and recorded models, contract suites."""

from ostler.testing.recorded import recorded
from ostler.testing.scripted import Scripted, calls

__all__ = ["Scripted", "calls", "recorded"]
