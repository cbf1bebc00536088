"""Tools: Python functions, files of a workspace, commands in a sandbox."""
