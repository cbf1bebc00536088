-- Not WITHOUT ROWID: bodies are large, and belong into the leaves of a table.
CREATE TABLE blobs (
    tenant TEXT NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (tenant, digest)
);
