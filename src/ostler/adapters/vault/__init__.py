"""Where the credentials of tools are kept."""
