-- What was let through of what is limited by the minute; see `ostler.domain.capacity`.
CREATE TABLE limits (
    name TEXT PRIMARY KEY,
    spent INTEGER NOT NULL
) WITHOUT ROWID;

-- Places that are taken (`is_held`), and those who stand in line for one; each is gone at `until`.
CREATE TABLE limit_places (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL,
    since INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    is_held INTEGER NOT NULL,
    PRIMARY KEY (name, holder)
) WITHOUT ROWID;
CREATE INDEX limit_places_by_holder ON limit_places (holder);
