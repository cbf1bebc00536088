"""Grants as signed tokens, for where there is no common store."""
