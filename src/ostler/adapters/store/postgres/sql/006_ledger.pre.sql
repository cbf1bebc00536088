-- What is used of budgets; see `ostler.domain.budget`. The tenant '' is for what all tenants draw on together. Whoever
-- reserves, settles or releases locks the row of the holder first, and then those of the accounts in the order of their
-- names.
CREATE TABLE @schema.ledger_accounts (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    used bigint NOT NULL DEFAULT 0,
    reserved bigint NOT NULL DEFAULT 0,
    warned bigint NOT NULL DEFAULT 0,
    ends bigint,
    tenant text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    UNIQUE (tenant, name)
) WITH (fillfactor = 50);
CREATE INDEX ledger_accounts_by_end ON @schema.ledger_accounts (ends) WHERE ends IS NOT NULL;

-- Sums of what leaves a window at the same moment.
CREATE TABLE @schema.ledger_slots (
    account bigint NOT NULL,
    until bigint NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (account, until)
) WITH (fillfactor = 80);

-- Calls that have reserved something, and for a while those that were settled. `until` is when they are overdue, or
-- forgotten.
CREATE TABLE @schema.ledger_holders (
    key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    until bigint NOT NULL,
    is_settled boolean NOT NULL DEFAULT false,
    tenant text COLLATE "C" NOT NULL,
    session text COLLATE "C" NOT NULL,
    call text COLLATE "C" NOT NULL,
    UNIQUE (tenant, session, call)
) WITH (fillfactor = 80);
CREATE INDEX ledger_holders_by_time ON @schema.ledger_holders (is_settled, until);

-- What each of them has reserved; `until` is when it leaves its window.
CREATE TABLE @schema.ledger_entries (
    holder bigint NOT NULL,
    account bigint NOT NULL,
    amount bigint NOT NULL,
    until bigint,
    is_warned boolean NOT NULL,
    unit text NOT NULL,
    PRIMARY KEY (holder, account)
);

ALTER TABLE @schema.ledger_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.ledger_slots ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.ledger_holders ENABLE ROW LEVEL SECURITY;
ALTER TABLE @schema.ledger_entries ENABLE ROW LEVEL SECURITY;

-- Counts, for each entry of a holder, an amount in place of what it had reserved, and takes the entries away. `amounts`
-- are by unit; those of other units stay, or are all `other` where that is given. Of what has left its window, nothing
-- counts.
CREATE FUNCTION @schema.ledger_close(owner bigint, units text[], amounts bigint[], other bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM @schema.ledger_accounts WHERE key IN (
        SELECT account FROM @schema.ledger_entries WHERE holder = owner
    ) ORDER BY tenant, name FOR UPDATE;
    WITH closed AS (
        DELETE FROM @schema.ledger_entries AS entry WHERE holder = owner RETURNING entry.account, entry.until, entry.amount,
            coalesce(amounts[array_position(units, entry.unit)], other, entry.amount) - entry.amount AS more
    ), slid AS (
        UPDATE @schema.ledger_slots AS slot SET amount = slot.amount + closed.more
        FROM closed WHERE (slot.account, slot.until) = (closed.account, closed.until) RETURNING slot.account
    )
    UPDATE @schema.ledger_accounts AS old SET reserved = reserved - closed.amount, used = used + CASE
            WHEN closed.until IS NULL OR closed.account IN (SELECT account FROM slid) THEN closed.more ELSE 0
        END
        FROM closed WHERE old.key = closed.account;
END $$;

-- Reserves for a holder on all accounts or on none; see the port. `untils` says when each draw leaves its window (NULL:
-- it has none), `silences` until when nobody else is warned. Returns the places of the accounts to warn of, or the place
-- of the one that lacks something and what others use there.
CREATE FUNCTION @schema.ledger_reserve(
    owner_tenant text, owner_session text, owner_call text, now bigint, overdue bigint,
    tenants text[], names text[], units text[], amounts bigint[], mosts bigint[], softs bigint[],
    untils bigint[], silences bigint[], ends_at bigint[], OUT warnings bigint[], OUT lacking bigint, OUT taken bigint
) LANGUAGE plpgsql AS $$
DECLARE
    owner bigint;
    is_over boolean;
    is_new boolean;
    window_keys bigint[];
BEGIN
    warnings := '{}';
    INSERT INTO @schema.ledger_holders (tenant, session, call, until)
        VALUES (owner_tenant, owner_session, owner_call, overdue) ON CONFLICT DO NOTHING RETURNING key INTO owner;
    is_new := owner IS NOT NULL;
    SELECT key, is_settled INTO owner, is_over FROM @schema.ledger_holders
        WHERE (tenant, session, call) = (owner_tenant, owner_session, owner_call) FOR UPDATE;
    IF is_over THEN
        RETURN;
    END IF;
    -- The update that changes nothing is for the lock.
    INSERT INTO @schema.ledger_accounts AS old (tenant, name, ends)
        SELECT given.tenant, given.name, 0 FROM unnest(tenants, names) AS given (tenant, name)
        ORDER BY tenant COLLATE "C", name COLLATE "C"
        ON CONFLICT (tenant, name) DO UPDATE SET used = old.used;
    SELECT array_agg(old.key ORDER BY old.key) INTO window_keys
        FROM unnest(tenants, names, untils) AS given (tenant, name, until)
        JOIN @schema.ledger_accounts AS old USING (tenant, name) WHERE given.until IS NOT NULL;
    IF window_keys IS NOT NULL THEN
        WITH gone AS (
            DELETE FROM @schema.ledger_slots WHERE account = ANY (window_keys) AND until <= now RETURNING account, amount
        ), sums AS (SELECT account, sum(amount) AS amount FROM gone GROUP BY account)
        UPDATE @schema.ledger_accounts AS old SET used = used - sums.amount FROM sums WHERE old.key = sums.account;
    END IF;
    WITH seen AS (
        SELECT number, given.amount, most, soft,
            old.used - CASE WHEN own.until IS NULL OR own.until > now THEN coalesce(own.amount, 0) ELSE 0 END AS others,
            old.warned > now AND NOT coalesce(own.is_warned, false) AS is_silent
        FROM unnest(tenants, names, amounts, mosts, softs)
            WITH ORDINALITY AS given (tenant, name, amount, most, soft, number)
        JOIN @schema.ledger_accounts AS old USING (tenant, name)
        LEFT JOIN @schema.ledger_entries AS own ON own.holder = owner AND own.account = old.key
    ), judged AS (
        SELECT number, others, others + amount > most AS is_lacking, others + amount >= soft AND NOT is_silent AS is_warning
        FROM seen
    )
    SELECT (array_agg(number ORDER BY number) FILTER (WHERE is_lacking))[1],
        (array_agg(others ORDER BY number) FILTER (WHERE is_lacking))[1],
        coalesce(array_agg(number ORDER BY number) FILTER (WHERE is_warning), '{}')
        INTO lacking, taken, warnings FROM judged;
    IF lacking IS NOT NULL THEN
        IF is_new THEN
            DELETE FROM @schema.ledger_holders WHERE key = owner;
        END IF;
        RETURN;
    END IF;
    IF NOT is_new THEN
        PERFORM @schema.ledger_close(owner, '{}', '{}', 0);
        UPDATE @schema.ledger_holders SET until = overdue WHERE key = owner;
    END IF;
    WITH given AS (
        SELECT * FROM unnest(tenants, names, units, amounts, untils, silences, ends_at)
            WITH ORDINALITY AS given (tenant, name, unit, amount, until, silence, ends, number)
    ), entered AS (
        UPDATE @schema.ledger_accounts AS old SET used = used + given.amount, reserved = reserved + given.amount,
            warned = CASE WHEN number = ANY (warnings) THEN greatest(warned, silence) ELSE warned END,
            ends = CASE WHEN old.ends IS NOT NULL AND given.ends IS NOT NULL THEN greatest(old.ends, given.ends) END
        FROM given WHERE (old.tenant, old.name) = (given.tenant, given.name)
        RETURNING old.key, given.unit, given.amount, given.until, given.number
    ), slotted AS (
        INSERT INTO @schema.ledger_slots AS slot (account, until, amount)
            SELECT key, until, amount FROM entered WHERE until IS NOT NULL
            ON CONFLICT (account, until) DO UPDATE SET amount = slot.amount + excluded.amount
    )
    INSERT INTO @schema.ledger_entries (holder, account, unit, amount, until, is_warned)
        SELECT owner, key, unit, amount, until, number = ANY (warnings) FROM entered;
END $$;

-- Settles a holder with these amounts by unit. Whoever is settled, or not known, stays as it is. Nobody waits for the
-- disk here, nor for a release: what a crash of the server forgets of it is overdue later, and done then.
CREATE FUNCTION @schema.ledger_settle(
    owner_tenant text, owner_session text, owner_call text, units text[], amounts bigint[], forgotten bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    owner bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE @schema.ledger_holders SET is_settled = true, until = forgotten
        WHERE (tenant, session, call) = (owner_tenant, owner_session, owner_call) AND NOT is_settled RETURNING key INTO owner;
    IF owner IS NOT NULL THEN
        PERFORM @schema.ledger_close(owner, units, amounts, NULL);
    END IF;
END $$;

-- Gives back what a holder has reserved.
CREATE FUNCTION @schema.ledger_release(owner_tenant text, owner_session text, owner_call text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    owner bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM @schema.ledger_holders
        WHERE (tenant, session, call) = (owner_tenant, owner_session, owner_call) AND NOT is_settled RETURNING key INTO owner;
    IF owner IS NOT NULL THEN
        PERFORM @schema.ledger_close(owner, '{}', '{}', 0);
    END IF;
END $$;

-- Drops what is remembered for too long.
CREATE FUNCTION @schema.ledger_forget(now bigint, ended bigint, at_once integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM @schema.ledger_holders WHERE key IN (
        SELECT key FROM @schema.ledger_holders WHERE is_settled AND until <= now
        ORDER BY until LIMIT at_once FOR UPDATE SKIP LOCKED
    );
    WITH gone AS (
        DELETE FROM @schema.ledger_accounts WHERE key IN (
            SELECT key FROM @schema.ledger_accounts WHERE ends <= ended AND reserved = 0
            ORDER BY ends LIMIT at_once FOR UPDATE SKIP LOCKED
        ) RETURNING key
    )
    DELETE FROM @schema.ledger_slots WHERE account IN (SELECT key FROM gone);
END $$;
