"""Where commands run: in isolation (bubblewrap), or, only where the user has said so, without."""
