-- Tokens with which programs call the host over HTTP. Of a token there is the hash alone.

CREATE TABLE tokens (
    id             TEXT PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    token_hash     TEXT NOT NULL UNIQUE,
    rights         TEXT NOT NULL CHECK (rights IN ('read', 'talk', 'admin')),
    agent_group_id TEXT REFERENCES agent_groups (id) ON DELETE CASCADE,   -- none: all of them
    budget_usd     REAL,
    budget_tokens  INTEGER,
    budget_period  TEXT NOT NULL DEFAULT 'month' CHECK (budget_period IN ('day', 'month', 'total')),
    created_at     TEXT NOT NULL,
    expires_at     TEXT,
    last_used      TEXT
);

-- What was asked for with an Idempotency-Key: a repeated call gets the first one's answer. Without a status it has begun,
-- and its end is not known.
CREATE TABLE keyed_calls (
    caller     TEXT NOT NULL,
    key        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    status     INTEGER,
    answer     TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (caller, key)
) WITHOUT ROWID;

CREATE INDEX keyed_calls_by_time ON keyed_calls (created_at);

-- Where events are posted to. `position` is the number of the last event that a hook is done with, and what stands behind
-- it waits; the secret signs, so it is kept as it is.
CREATE TABLE hooks (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL UNIQUE,
    url               TEXT NOT NULL,
    secret            TEXT NOT NULL,
    kinds             TEXT NOT NULL,               -- a JSON list of kinds of events; an empty one is all of them
    agent_group_id    TEXT REFERENCES agent_groups (id) ON DELETE CASCADE,
    position          INTEGER NOT NULL,
    attempts          INTEGER NOT NULL DEFAULT 0,  -- of the event that is tried now
    next_at           TEXT,
    last_error        TEXT,
    delivered         INTEGER NOT NULL DEFAULT 0,
    missed            INTEGER NOT NULL DEFAULT 0,  -- given up, or gone before it was sent
    last_delivered_at TEXT,
    created_at        TEXT NOT NULL
);
