-- Events are never changed nor deleted, so a position is never used twice and position order is commit order.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    data BLOB NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (stream, seq)
);

-- What is known of a stream without reading it; `key` numbers streams by creation.
CREATE TABLE streams (
    key INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    queue TEXT NOT NULL,
    status TEXT NOT NULL,
    due INTEGER,
    worker TEXT,
    epoch INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, name)
);

-- Lists are newest first: the key that every index entry ends with gives that order without sorting.
CREATE INDEX streams_by_tenant ON streams (tenant);
CREATE INDEX streams_by_status ON streams (tenant, status);
CREATE INDEX streams_by_due ON streams (due) WHERE due IS NOT NULL;
CREATE INDEX streams_by_worker ON streams (worker) WHERE worker IS NOT NULL;

CREATE TABLE workers (
    name TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) WITHOUT ROWID;
