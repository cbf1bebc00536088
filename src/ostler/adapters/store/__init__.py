"""Back ends of `EventStore` and `BlobStore`."""
