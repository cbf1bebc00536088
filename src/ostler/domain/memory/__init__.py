"""What agents keep from session to session."""
