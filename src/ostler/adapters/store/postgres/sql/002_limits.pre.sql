-- What was let through of what is limited by the minute; see `ostler.domain.capacity`. Whoever wants a place locks the
-- rows of its limits, in the order of their names.
CREATE TABLE @schema.limits (
    name text COLLATE "C" PRIMARY KEY,
    spent bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

-- Places that are taken (`is_held`), and those who stand in line for one; each is gone at `until`.
CREATE TABLE @schema.limit_places (
    epoch bigint NOT NULL,
    until bigint NOT NULL,
    since bigint NOT NULL,
    priority integer NOT NULL,
    is_held boolean NOT NULL,
    name text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, holder)
);
CREATE INDEX limit_places_by_holder ON @schema.limit_places (holder);

-- Takes a place under all of these limits, or stands in line for the one that has to be waited for the longest. An
-- `interval` of 0 is a limit of places. Nobody waits for the disk here: what a crash of the server forgets of the last
-- moment is less than what expires at any time.
CREATE FUNCTION @schema.take_place(
    names text[], mosts integer[], intervals bigint[], slacks bigint[],
    asker text, asker_epoch bigint, asker_until bigint, asker_since bigint, asker_priority integer,
    now bigint, look_again bigint, look_again_max bigint, patience bigint, OUT after bigint, OUT blocked_by text
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO @schema.limits (name) SELECT unnest(names) AS name ORDER BY name ON CONFLICT DO NOTHING;
    PERFORM FROM @schema.limits WHERE name = ANY (names) ORDER BY name FOR UPDATE;
    DELETE FROM @schema.limit_places WHERE name = ANY (names) AND (until <= now OR holder = asker);
    WITH seen AS (
        SELECT number, name, most, pace, least(greatest(spent, now), now + slack + pace) - slack - now AS early, (
            SELECT count(*) FROM @schema.limit_places AS place WHERE place.name = given.name AND is_held
        ) AS held, (
            SELECT count(*) FROM @schema.limit_places AS place WHERE place.name = given.name AND NOT is_held
                AND (-priority, since, holder) < (-asker_priority, asker_since, asker COLLATE "C")
        ) AS ahead
        FROM unnest(names, mosts, intervals, slacks) WITH ORDINALITY AS given (name, most, pace, slack, number)
        JOIN @schema.limits USING (name)
    ), waits AS (
        SELECT number, name, CASE
            WHEN pace = 0 AND held + ahead < most OR pace > 0 AND early + ahead * pace <= 0 THEN 0
            WHEN pace = 0 THEN least(look_again_max, look_again * (1 + ahead))
            ELSE greatest(early, least(look_again, ahead * pace))
        END AS wait FROM seen
    )
    SELECT wait, name INTO after, blocked_by FROM waits ORDER BY wait DESC, number LIMIT 1;
    IF after > 0 THEN
        INSERT INTO @schema.limit_places (name, holder, epoch, until, since, priority, is_held)
            VALUES (blocked_by, asker, asker_epoch, now + after + patience, asker_since, asker_priority, false);
        RETURN;
    END IF;
    blocked_by := '';
    UPDATE @schema.limits AS old SET spent = least(greatest(spent, now), now + slack + pace) + pace
        FROM unnest(names, intervals, slacks) AS given (name, pace, slack) WHERE old.name = given.name AND pace > 0;
    INSERT INTO @schema.limit_places (name, holder, epoch, until, since, priority, is_held)
        SELECT name, asker, asker_epoch, asker_until, asker_since, asker_priority, true
        FROM unnest(names, intervals) AS given (name, pace) WHERE pace = 0;
END $$;

-- Gives places back, and leaves every line.
CREATE FUNCTION @schema.give_back_places(holders text[], epochs bigint[], sinces bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM @schema.limit_places AS place USING unnest(holders, epochs, sinces) AS given (holder, epoch, since)
        WHERE (place.holder, place.epoch, place.since) = (given.holder, given.epoch, given.since);
END $$;
