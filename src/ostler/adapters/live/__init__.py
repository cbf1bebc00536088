"""Text of models on its way to those who watch: within a process, a machine, or the reach of a server."""
