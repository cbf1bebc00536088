-- How far each reader of the log has come. Rows and position are written in one transaction.
CREATE TABLE views (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    position INTEGER NOT NULL
);

-- Not WITHOUT ROWID, as for blobs; a row that is replaced leaves the index alone.
CREATE TABLE view_rows (
    view INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (view, tenant, key)
);
