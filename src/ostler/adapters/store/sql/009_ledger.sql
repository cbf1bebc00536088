-- What is used of budgets; see `ostler.domain.budget`. The tenant '' is for what all tenants draw on together.
CREATE TABLE ledger_accounts (
    key INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    used INTEGER NOT NULL DEFAULT 0,
    reserved INTEGER NOT NULL DEFAULT 0,
    warned INTEGER NOT NULL DEFAULT 0,
    ends INTEGER,
    UNIQUE (tenant, name)
);
CREATE INDEX ledger_accounts_by_end ON ledger_accounts (ends) WHERE ends IS NOT NULL;

-- Sums of what leaves a window at the same moment.
CREATE TABLE ledger_slots (
    account INTEGER NOT NULL,
    until INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (account, until)
) WITHOUT ROWID;

-- Calls that have reserved something, and for a while those that were settled. `until` is when they are overdue, or
-- forgotten.
CREATE TABLE ledger_holders (
    key INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    session TEXT NOT NULL,
    call TEXT NOT NULL,
    until INTEGER NOT NULL,
    is_settled INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, session, call)
);
CREATE INDEX ledger_holders_by_time ON ledger_holders (is_settled, until);

-- What each of them has reserved; `until` is when it leaves its window.
CREATE TABLE ledger_entries (
    holder INTEGER NOT NULL,
    account INTEGER NOT NULL,
    unit TEXT NOT NULL,
    amount INTEGER NOT NULL,
    until INTEGER,
    is_warned INTEGER NOT NULL,
    PRIMARY KEY (holder, account)
) WITHOUT ROWID;
