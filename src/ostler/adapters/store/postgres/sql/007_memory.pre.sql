-- The index of memories: a view of their streams, which is cleared and filled again from them at will.

-- Up to which event each stream was applied, with its hash, and how much it holds. Whoever changes anything of a scope locks its row.
-- `episodes`, `facts`, `files` and `relations` are in force; `tokens` are the words of all.
CREATE TABLE @schema.memory_scopes (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    applied bigint NOT NULL,
    hash bytea NOT NULL,
    episodes bigint NOT NULL DEFAULT 0,
    facts bigint NOT NULL DEFAULT 0,
    files bigint NOT NULL DEFAULT 0,
    closed bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    tokens bigint NOT NULL DEFAULT 0,
    relations bigint NOT NULL DEFAULT 0,
    entities bigint NOT NULL DEFAULT 0,
    recalls bigint NOT NULL DEFAULT 0,
    tenant text COLLATE "C" NOT NULL,
    agent text COLLATE "C" NOT NULL,
    person text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    UNIQUE (tenant, agent, person, session)
) WITH (fillfactor = 50);

-- In force from `position` to before `until` (NULL: still), except in the `gaps` before it was restored. `weight` is the
-- logarithm of the importance, `name` the key; `subject` and `object` are those of a relation, in normal form. `words` also holds the
-- scope (`@12`), so that the index finds what a scope holds of a word without looking at what others hold.
CREATE TABLE @schema.memories (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope bigint NOT NULL,
    position bigint NOT NULL,
    at bigint NOT NULL,
    happened bigint NOT NULL,
    weight double precision NOT NULL,
    until bigint,
    valid_from bigint,
    valid_to bigint,
    length integer NOT NULL,
    bytes integer NOT NULL,
    is_pinned boolean NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    ended_by text NOT NULL DEFAULT '',
    name text COLLATE "C" NOT NULL,
    digest text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    subject text COLLATE "C",
    relation text COLLATE "C",
    object text COLLATE "C",
    tags text[] COLLATE "C" NOT NULL,
    contradicts text[] COLLATE "C" NOT NULL DEFAULT '{}',
    gaps int8multirange NOT NULL DEFAULT '{}',
    words tsvector NOT NULL,
    body bytea NOT NULL,
    UNIQUE (scope, id)
);
CREATE UNIQUE INDEX memories_by_position ON @schema.memories (scope, position);
CREATE INDEX memories_by_time ON @schema.memories (scope, kind, happened, position)
    INCLUDE (weight, is_pinned) WHERE until IS NULL;
CREATE INDEX memories_by_digest ON @schema.memories (scope, digest) WHERE until IS NULL;
-- The first characters of names, because an index holds no long ones.
CREATE INDEX memories_by_name ON @schema.memories (scope, left(name, 100)) WHERE name <> '' AND until IS NULL;
CREATE INDEX memories_by_subject ON @schema.memories (scope, left(subject, 100), position) WHERE subject IS NOT NULL;
CREATE INDEX memories_by_object ON @schema.memories (scope, left(object, 100), position) WHERE object IS NOT NULL;
CREATE INDEX memories_by_relation ON @schema.memories (scope, position) WHERE subject IS NOT NULL;
-- What was not sorted into it yet is gone through by every search: not much, then.
CREATE INDEX memories_by_words ON @schema.memories USING gin (words) WITH (gin_pending_list_limit = 256);

-- The calls that were given a memory.
CREATE TABLE @schema.memory_recalls (
    scope bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    call text COLLATE "C" NOT NULL,
    PRIMARY KEY (scope, id, call)
);

-- What was said of entities of the knowledge graph, the last of each in force.
CREATE TABLE @schema.memory_entities (
    scope bigint NOT NULL,
    position bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX memory_entities_by_name ON @schema.memory_entities (scope, left(name, 100), position);

-- Every name of an entity, and how often relations in force and descriptions mention it.
CREATE TABLE @schema.memory_names (
    scope bigint NOT NULL,
    mentions bigint NOT NULL,
    digest bytea NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (scope, digest)
) WITH (fillfactor = 80);
CREATE INDEX memory_names_by_name ON @schema.memory_names (scope, left(name, 100));

-- The vectors of a scope that are of one embedder. Whoever changes any of them locks its row: `last` is the greatest number
-- of a vector, `purges` grows whenever one is taken away, and up to the position `complete` no memory in force lacks one.
CREATE TABLE @schema.memory_spaces (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope bigint NOT NULL,
    last bigint NOT NULL DEFAULT 0,
    purges bigint NOT NULL DEFAULT 0,
    complete bigint NOT NULL DEFAULT 0,
    vectors bigint NOT NULL DEFAULT 0,
    dimensions integer NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    UNIQUE (scope, fingerprint)
) WITH (fillfactor = 80);

-- As arrays, which are there without any extension, and which pgvector reads.
CREATE TABLE @schema.memory_vectors (
    number bigint GENERATED ALWAYS AS IDENTITY,
    space bigint NOT NULL,
    memory bigint NOT NULL,
    vector real[] NOT NULL,
    PRIMARY KEY (space, number)
);
CREATE UNIQUE INDEX memory_vectors_by_memory ON @schema.memory_vectors (memory, space);
ALTER TABLE @schema.memory_vectors ALTER COLUMN vector SET STORAGE EXTERNAL;

ALTER TABLE @schema.memory_scopes ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.memories ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.memory_recalls ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.memory_entities ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.memory_names ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.memory_spaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.memory_vectors ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_tenant ON @schema.memory_scopes FOR SELECT USING (tenant = (SELECT @schema.own_tenant()));
-- The scopes and spaces of these queries are those that their policies show.
CREATE POLICY own_tenant ON @schema.memories FOR SELECT
    USING (EXISTS (SELECT FROM @schema.memory_scopes AS own WHERE own.key = scope));
CREATE POLICY own_tenant ON @schema.memory_recalls FOR SELECT
    USING (EXISTS (SELECT FROM @schema.memory_scopes AS own WHERE own.key = scope));
CREATE POLICY own_tenant ON @schema.memory_entities FOR SELECT
    USING (EXISTS (SELECT FROM @schema.memory_scopes AS own WHERE own.key = scope));
CREATE POLICY own_tenant ON @schema.memory_names FOR SELECT
    USING (EXISTS (SELECT FROM @schema.memory_scopes AS own WHERE own.key = scope));
CREATE POLICY own_tenant ON @schema.memory_spaces FOR SELECT
    USING (EXISTS (SELECT FROM @schema.memory_scopes AS own WHERE own.key = scope));
CREATE POLICY own_tenant ON @schema.memory_vectors FOR SELECT
    USING (EXISTS (SELECT FROM @schema.memory_spaces AS own WHERE own.key = space));
