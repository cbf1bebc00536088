"""Streams, views and blobs in PostgreSQL, for any number of workers on any number of machines."""
