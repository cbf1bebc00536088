"""Use cases: settings, wiring, and what every face (command line, Python …) offers."""
