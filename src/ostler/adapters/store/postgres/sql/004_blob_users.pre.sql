-- Which streams a body is kept for: it goes when the last of them does.
CREATE TABLE @schema.blob_users (
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (tenant, name, digest)
);
CREATE INDEX blob_users_by_digest ON @schema.blob_users (tenant, digest);
