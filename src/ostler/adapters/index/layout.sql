-- The rows of a scope are numbered within a range of its own (`key << 32`), in the order of their positions. So whatever
-- is asked of a scope is asked of a range, the words that it holds included.

CREATE TABLE scopes (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    user TEXT NOT NULL,
    session TEXT NOT NULL,
    applied INTEGER NOT NULL DEFAULT 0,
    hash BLOB NOT NULL DEFAULT x'',       -- of the last event that was applied
    row INTEGER NOT NULL DEFAULT 0,       -- the last one that was given to a memory
    purges INTEGER NOT NULL DEFAULT 0,    -- grows whenever rows are taken away, or are in force again
    episodes INTEGER NOT NULL DEFAULT 0,  -- in force, like facts, files and relations
    facts INTEGER NOT NULL DEFAULT 0,
    files INTEGER NOT NULL DEFAULT 0,
    closed INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,     -- of the texts of what is in force
    terms INTEGER NOT NULL DEFAULT 0,     -- of all texts, in force or not
    relations INTEGER NOT NULL DEFAULT 0,
    entities INTEGER NOT NULL DEFAULT 0,
    recalls INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, agent, user, session)
);
-- The keys of a file that is laid out anew are others, so that no process takes its scopes for those that it remembers.
INSERT INTO sqlite_sequence (name, seq) VALUES ('scopes', abs(random() % 1073741824));

CREATE TABLE memories (
    row INTEGER PRIMARY KEY,
    scope INTEGER NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    position INTEGER NOT NULL,
    at INTEGER NOT NULL,
    since INTEGER NOT NULL,  -- in force from this position on: since it was remembered, or restored
    until INTEGER,
    ended_by TEXT NOT NULL DEFAULT '',
    is_pinned INTEGER NOT NULL,
    digest TEXT NOT NULL,
    key TEXT NOT NULL,
    session TEXT NOT NULL,
    happened INTEGER NOT NULL,
    weight REAL NOT NULL,    -- log2 of the importance
    valid_from INTEGER,
    valid_to INTEGER,
    bytes INTEGER NOT NULL,
    terms INTEGER NOT NULL,
    subject TEXT,            -- of a relation, in normal form, like the object
    relation TEXT,
    object TEXT,
    body BLOB NOT NULL,
    UNIQUE (scope, id)
);
CREATE INDEX memories_by_time ON memories (scope, kind, happened, row) WHERE until IS NULL;
CREATE INDEX memories_by_weight ON memories (scope, kind, weight, happened, row) WHERE until IS NULL AND NOT is_pinned;
CREATE INDEX memories_by_digest ON memories (scope, digest) WHERE until IS NULL;
CREATE INDEX memories_by_key ON memories (scope, key) WHERE key <> '';
CREATE INDEX memories_by_subject ON memories (scope, subject, until, relation) WHERE subject IS NOT NULL;
CREATE INDEX memories_by_object ON memories (scope, object, until, relation) WHERE object IS NOT NULL;

-- When a memory that is in force again, or was for a second time, was in force before.
CREATE TABLE spans (row INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (row, since))
WITHOUT ROWID;

CREATE TABLE tags (row INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (row, tag)) WITHOUT ROWID;

CREATE TABLE contradictions (row INTEGER NOT NULL, other INTEGER NOT NULL, PRIMARY KEY (row, other)) WITHOUT ROWID;

CREATE TABLE recalls (row INTEGER NOT NULL, call TEXT NOT NULL, PRIMARY KEY (row, call)) WITHOUT ROWID;

CREATE TABLE entities (
    scope INTEGER NOT NULL,
    name TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    body BLOB NOT NULL,
    PRIMARY KEY (scope, name, since)
) WITHOUT ROWID;

-- How often a name of an entity is mentioned by relations in force, and whether it is described.
CREATE TABLE names (
    scope INTEGER NOT NULL,
    name TEXT NOT NULL,
    mentions INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) WITHOUT ROWID;

CREATE TABLE embedders (
    key INTEGER PRIMARY KEY AUTOINCREMENT, fingerprint TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL
);

CREATE TABLE vectors (
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    embedder INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    row INTEGER NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (embedder, row)
);
CREATE INDEX vectors_by_scope ON vectors (embedder, scope, key);

CREATE TABLE embedded (
    scope INTEGER NOT NULL, embedder INTEGER NOT NULL, vectors INTEGER NOT NULL, PRIMARY KEY (scope, embedder)
) WITHOUT ROWID;

-- The terms of the memories of a run of 256 rows that is not complete yet: a line for each, with how often it occurs.
CREATE TABLE fresh (row INTEGER PRIMARY KEY, terms TEXT NOT NULL, length INTEGER NOT NULL);

-- In which memories of a complete run a term occurs: a byte for the place in the run and one for how often, of each.
CREATE TABLE postings (run INTEGER NOT NULL, term TEXT NOT NULL, places BLOB NOT NULL, PRIMARY KEY (run, term))
WITHOUT ROWID;

-- How many terms each memory of a complete run has: two bytes for each place.
CREATE TABLE lengths (run INTEGER PRIMARY KEY, terms BLOB NOT NULL);

CREATE TRIGGER memory_made AFTER INSERT ON memories BEGIN
    UPDATE scopes SET
        episodes = episodes + (new.kind = 'episode'),
        facts = facts + (new.kind = 'fact'),
        files = files + (new.kind = 'file'),
        bytes = bytes + new.bytes,
        terms = terms + new.terms,
        relations = relations + (new.subject IS NOT NULL)
    WHERE key = new.scope;
END;

CREATE TRIGGER relation_made AFTER INSERT ON memories WHEN new.subject IS NOT NULL BEGIN
    INSERT INTO names (scope, name, mentions) VALUES (new.scope, new.subject, 1), (new.scope, new.object, 1)
    ON CONFLICT (scope, name) DO UPDATE SET mentions = mentions + 1;
END;

CREATE TRIGGER memory_ended AFTER UPDATE OF until ON memories WHEN old.until IS NULL AND new.until IS NOT NULL BEGIN
    UPDATE scopes SET
        episodes = episodes - (new.kind = 'episode'),
        facts = facts - (new.kind = 'fact'),
        files = files - (new.kind = 'file'),
        closed = closed + 1,
        bytes = bytes - new.bytes,
        relations = relations - (new.subject IS NOT NULL)
    WHERE key = new.scope;
    UPDATE names SET mentions = mentions - 1 WHERE scope = new.scope AND name = new.subject;
    UPDATE names SET mentions = mentions - 1 WHERE scope = new.scope AND name = new.object;
END;

CREATE TRIGGER memory_back AFTER UPDATE OF until ON memories WHEN old.until IS NOT NULL AND new.until IS NULL BEGIN
    UPDATE scopes SET
        episodes = episodes + (new.kind = 'episode'),
        facts = facts + (new.kind = 'fact'),
        files = files + (new.kind = 'file'),
        closed = closed - 1,
        bytes = bytes + new.bytes,
        relations = relations + (new.subject IS NOT NULL)
    WHERE key = new.scope;
END;

CREATE TRIGGER relation_back AFTER UPDATE OF until ON memories
WHEN old.until IS NOT NULL AND new.until IS NULL AND new.subject IS NOT NULL BEGIN
    INSERT INTO names (scope, name, mentions) VALUES (new.scope, new.subject, 1), (new.scope, new.object, 1)
    ON CONFLICT (scope, name) DO UPDATE SET mentions = mentions + 1;
END;

-- A row is ended before it is taken away.
CREATE TRIGGER memory_gone AFTER DELETE ON memories BEGIN
    UPDATE scopes SET closed = closed - 1, terms = terms - old.terms WHERE key = old.scope;
    DELETE FROM spans WHERE row = old.row;
    DELETE FROM tags WHERE row = old.row;
    DELETE FROM contradictions WHERE other = old.row AND row IN (SELECT other FROM contradictions WHERE row = old.row);
    DELETE FROM contradictions WHERE row = old.row;
    DELETE FROM recalls WHERE row = old.row;
    DELETE FROM vectors WHERE row = old.row AND embedder IN (SELECT key FROM embedders);
END;

CREATE TRIGGER name_made AFTER INSERT ON names BEGIN
    UPDATE scopes SET entities = entities + 1 WHERE key = new.scope;
END;

CREATE TRIGGER name_unused AFTER UPDATE ON names WHEN new.mentions = 0 BEGIN
    DELETE FROM names WHERE scope = new.scope AND name = new.name;
END;

CREATE TRIGGER name_gone AFTER DELETE ON names BEGIN
    UPDATE scopes SET entities = entities - 1 WHERE key = old.scope;
END;

CREATE TRIGGER recall_made AFTER INSERT ON recalls BEGIN
    UPDATE scopes SET recalls = recalls + 1 WHERE key = new.row >> 32;
END;

CREATE TRIGGER recall_gone AFTER DELETE ON recalls BEGIN
    UPDATE scopes SET recalls = recalls - 1 WHERE key = old.row >> 32;
END;

CREATE TRIGGER vector_made AFTER INSERT ON vectors BEGIN
    INSERT INTO embedded (scope, embedder, vectors) VALUES (new.scope, new.embedder, 1)
    ON CONFLICT (scope, embedder) DO UPDATE SET vectors = vectors + 1;
END;

CREATE TRIGGER vector_gone AFTER DELETE ON vectors BEGIN
    UPDATE embedded SET vectors = vectors - 1 WHERE scope = old.scope AND embedder = old.embedder;
END;
