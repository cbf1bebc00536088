-- What is known of a stream without reading it; `key` numbers streams by creation. The page keeps room for rows that
-- change, which costs no index anything as long as no indexed column does.
CREATE TABLE @schema.streams (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    due bigint,
    claimed bigint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    priority integer NOT NULL DEFAULT 0,
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    worker text COLLATE "C",
    UNIQUE (tenant, name)
) WITH (fillfactor = 80);

CREATE INDEX streams_by_tenant ON @schema.streams (tenant, key);
CREATE INDEX streams_by_status ON @schema.streams (tenant, status, key);
CREATE INDEX streams_by_queue ON @schema.streams (tenant, queue, key);
CREATE INDEX streams_by_worker ON @schema.streams (worker) WHERE worker IS NOT NULL;
-- The lanes of what is due and in nobody's hands: most urgent first, then longest due.
CREATE INDEX streams_by_lane ON @schema.streams (tenant, queue, (-priority), due, key)
    WHERE due IS NOT NULL AND worker IS NULL;
CREATE INDEX streams_by_due ON @schema.streams (due, key) WHERE due IS NOT NULL AND worker IS NULL;

-- Columns in the order that leaves no holes between them. The version of a stream is its greatest `seq`, so that an
-- append touches no other table unless the standing of the stream changes. `fenced` rows were written by the worker
-- that held the stream; the others are what workers are to notice.
CREATE TABLE @schema.events (
    position bigint PRIMARY KEY,
    stream bigint NOT NULL,
    at bigint NOT NULL,
    seq integer NOT NULL,
    fenced boolean NOT NULL,
    hash bytea NOT NULL,
    data bytea NOT NULL,
    UNIQUE (stream, seq)
);
CREATE INDEX events_from_outside ON @schema.events (position) WHERE NOT fenced;

CREATE TABLE @schema.workers (
    name text COLLATE "C" PRIMARY KEY,
    until bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE @schema.blobs (
    tenant text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant, digest)
);
ALTER TABLE @schema.blobs ALTER COLUMN body SET STORAGE EXTERNAL;

-- Everything that changes streams or adds events takes this lock until its transaction ends. So the order of positions
-- is the order of commits, and whoever has seen a position has seen all before it.
CREATE FUNCTION @schema.lock_log() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('ostler log', '@schema.events'::regclass::oid::bigint));
$$;

-- Claims also take turns among themselves, because each looks around before it takes anything.
CREATE FUNCTION @schema.lock_claims() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('ostler claims', '@schema.events'::regclass::oid::bigint));
$$;

CREATE FUNCTION @schema.head() RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(max(position), 0) FROM @schema.events;
$$;

-- One append to a stream whose key is known, which leaves the standing as it is: what most appends are. NULL if the
-- stream is not at `expected` or the epoch is another.
CREATE FUNCTION @schema.append_one(
    stream_key bigint, expected integer, expected_epoch bigint, ats bigint[], hashes bytea[], datas bytea[], sender text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    head bigint;
    place integer;
BEGIN
    PERFORM @schema.lock_log();
    PERFORM FROM @schema.streams
        WHERE key = stream_key AND epoch = coalesce(expected_epoch, epoch)
          AND expected = coalesce((SELECT seq FROM @schema.events WHERE stream = stream_key ORDER BY seq DESC LIMIT 1), 0);
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT coalesce(max(position), 0) INTO head FROM @schema.events;
    FOR place IN 1 .. array_length(ats, 1) LOOP
        INSERT INTO @schema.events (position, stream, at, seq, fenced, hash, data) VALUES (
            head + place, stream_key, ats[place], expected + place, expected_epoch IS NOT NULL, hashes[place], datas[place]
        );
    END LOOP;
    IF expected_epoch IS NULL THEN
        PERFORM pg_notify('@schema.log', sender);
    END IF;
    RETURN head + array_length(ats, 1);
END $$;

-- Appends to different streams, each accepted or refused alone. The n-th append has `sizes[n]` records, whose owner is
-- n; its stream is `keys[n]`, or named if that is NULL; its queue is NULL if the standing stays as it is. Returns the
-- keys, and for each append the position after it, NULL if it is refused.
CREATE FUNCTION @schema.append(
    INOUT keys bigint[], tenants text[], names text[], expecteds integer[], epochs bigint[], sizes integer[],
    queues text[], statuses text[], dues bigint[], priorities integer[],
    owners integer[], ats bigint[], seqs integer[], hashes bytea[], datas bytea[], sender text, OUT ends bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    head bigint;
BEGIN
    PERFORM @schema.lock_log();
    IF array_position(keys, NULL) IS NOT NULL THEN
        INSERT INTO @schema.streams (tenant, name, queue, status, due, priority)
            SELECT given.tenant, given.name, given.queue, given.status, given.due, given.priority
            FROM unnest(keys, tenants, names, expecteds, epochs, queues, statuses, dues, priorities)
                AS given (key, tenant, name, expected, epoch, queue, status, due, priority)
            WHERE given.key IS NULL AND expected = 0 AND coalesce(given.epoch, 0) = 0 AND given.queue IS NOT NULL
              AND NOT EXISTS (SELECT FROM @schema.streams AS old WHERE (old.tenant, old.name) = (given.tenant, given.name));
        SELECT array_agg(coalesce(given.key, found.key) ORDER BY number) INTO keys
            FROM unnest(keys, tenants, names) WITH ORDINALITY AS given (key, tenant, name, number)
            LEFT JOIN @schema.streams AS found
                ON given.key IS NULL AND (found.tenant, found.name) = (given.tenant, given.name);
    END IF;
    SELECT coalesce(max(position), 0) INTO head FROM @schema.events;
    WITH judged AS MATERIALIZED (
        SELECT number, size, coalesce(
            found.epoch = coalesce(given.epoch, found.epoch) AND given.expected = coalesce(
                (SELECT seq FROM @schema.events WHERE stream = found.key ORDER BY seq DESC LIMIT 1), 0
            ), false
        ) AS is_current
        FROM unnest(keys, expecteds, epochs, sizes) WITH ORDINALITY AS given (key, expected, epoch, size, number)
        LEFT JOIN @schema.streams AS found ON found.key = given.key
    ), placed AS (
        SELECT number, is_current, head + coalesce(sum(size) FILTER (WHERE is_current) OVER (ORDER BY number), 0) AS last
        FROM judged
    )
    SELECT array_agg(CASE WHEN is_current THEN last END ORDER BY number) INTO ends FROM placed;
    INSERT INTO @schema.events (position, stream, at, seq, fenced, hash, data)
        SELECT head + row_number() OVER (ORDER BY number), keys[owner], at, seq, epochs[owner] IS NOT NULL, hash, data
        FROM unnest(owners, ats, seqs, hashes, datas) WITH ORDINALITY AS given (owner, at, seq, hash, data, number)
        WHERE ends[owner] IS NOT NULL;
    UPDATE @schema.streams AS old
        SET queue = given.queue, status = given.status, due = given.due, priority = given.priority
        FROM unnest(keys, queues, statuses, dues, priorities, ends) AS given (key, queue, status, due, priority, last)
        WHERE old.key = given.key AND given.queue IS NOT NULL AND given.last IS NOT NULL;
    IF array_position(epochs, NULL) IS NOT NULL THEN
        PERFORM pg_notify('@schema.log', sender);
    END IF;
END $$;

-- Whatever is in the hands of workers that do not live now is free again.
CREATE FUNCTION @schema.free_the_dead(now bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    dead text[];
BEGIN
    WITH RECURSIVE holders (worker) AS (
        SELECT min(worker) FROM @schema.streams WHERE worker IS NOT NULL
        UNION ALL
        SELECT (SELECT min(worker) FROM @schema.streams AS later WHERE later.worker > holders.worker)
        FROM holders WHERE worker IS NOT NULL
    )
    SELECT array_agg(worker) INTO dead FROM holders
        WHERE worker IS NOT NULL AND worker NOT IN (SELECT name FROM @schema.workers WHERE until > now);
    IF dead IS NOT NULL THEN
        PERFORM @schema.lock_log();
        UPDATE @schema.streams SET worker = NULL WHERE worker = ANY (dead);
    END IF;
END $$;

-- Puts streams into the hands of a worker. Those that are not free any more are left out.
CREATE FUNCTION @schema.take(wanted bigint[], taker text, now bigint)
RETURNS TABLE (key bigint, epoch bigint, attempts integer) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM @schema.lock_log();
    RETURN QUERY UPDATE @schema.streams AS stream
        SET worker = taker, epoch = stream.epoch + 1, attempts = stream.attempts + 1, claimed = now
        WHERE stream.key = ANY (wanted) AND stream.worker IS NULL AND stream.due <= now
        RETURNING stream.key, stream.epoch, stream.attempts;
END $$;

-- A worker lets go of streams in good order.
CREATE FUNCTION @schema.release(holder text, tenants text[], names text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM @schema.lock_log();
    UPDATE @schema.streams AS stream SET worker = NULL, attempts = 0
        FROM unnest(tenants, names) AS given (tenant, name)
        WHERE (stream.tenant, stream.name) = (given.tenant, given.name) AND stream.worker = holder;
END $$;

-- Forgets a worker; whatever was in its hands is free.
CREATE FUNCTION @schema.retire(holder text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM @schema.lock_log();
    UPDATE @schema.streams SET worker = NULL WHERE worker = holder;
    DELETE FROM @schema.workers WHERE name = holder;
END $$;

-- How far each reader of the log has come. Rows and position are written in one transaction.
CREATE TABLE @schema.views (
    key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    position bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE @schema.view_rows (
    view integer NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (view, tenant, key)
) WITH (fillfactor = 80);
