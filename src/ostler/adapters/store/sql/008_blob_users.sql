-- Which streams a body is kept for: it goes when the last of them does.
CREATE TABLE blob_users (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (tenant, name, digest)
) WITHOUT ROWID;
CREATE INDEX blob_users_by_digest ON blob_users (tenant, digest);
