-- What runs by itself: schedules, each of their runs, and the one switch that pauses all of them.

CREATE TABLE schedules (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    name           TEXT NOT NULL,
    prompt         TEXT NOT NULL,
    check_script   TEXT,                     -- run by the agent before its model: what it prints is added to the prompt
    kind           TEXT NOT NULL CHECK (kind IN ('once', 'interval', 'cron')),
    spec           TEXT NOT NULL,            -- a stored time, seconds, or a cron expression
    timezone       TEXT NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('active', 'paused', 'waiting', 'done', 'cancelled')),
    why            TEXT,                     -- it is in that state, as a sentence
    next_at        TEXT,
    planned_at     TEXT,                     -- when next_at was found out: a clock that was set back since shows by it
    open_run       TEXT,                     -- the run that goes on: there is never another one
    missed         TEXT NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
    session_mode   TEXT NOT NULL CHECK (session_mode IN ('own', 'chat')),
    speaks_in      TEXT NOT NULL,            -- 'origin', 'nowhere', or the name of a destination or a home
    channel_type   TEXT,                     -- the origin
    platform_id    TEXT,
    thread_id      TEXT,
    urgent         INTEGER NOT NULL DEFAULT 0 CHECK (urgent IN (0, 1)),
    max_runs       INTEGER,
    ends_at        TEXT,
    runs           INTEGER NOT NULL DEFAULT 0,      -- that were started
    max_failures   INTEGER NOT NULL,
    failures       INTEGER NOT NULL DEFAULT 0,      -- in a row
    budget_usd     REAL,                     -- a day
    budget_tokens  INTEGER,
    budget_told    TEXT,                     -- the day on which its owner was told last that it is used up
    created_by     TEXT NOT NULL,            -- a user, or the name of an agent group with '@' before it
    created_at     TEXT NOT NULL,
    UNIQUE (agent_group_id, name)
);

-- What is due next, alone: ten thousand schedules cost one step into this index.
CREATE INDEX schedules_due ON schedules (next_at) WHERE status = 'active' AND open_run IS NULL AND next_at IS NOT NULL;

CREATE TABLE schedule_runs (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    schedule_id    TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    due_at         TEXT NOT NULL,
    started_at     TEXT NOT NULL,
    finished_at    TEXT,
    state          TEXT NOT NULL CHECK (state IN
                       ('running', 'delivering', 'ok', 'silent', 'failed', 'undelivered', 'cancelled', 'skipped', 'missed')),
    cause          TEXT NOT NULL,            -- 'due', 'by hand'
    session_id     TEXT,                     -- may be deleted
    message_id     TEXT,
    note           TEXT,                     -- why it ended so, or what it made up for
    delivery       TEXT,                     -- what became of what it said
    tokens         INTEGER NOT NULL DEFAULT 0,
    cost_usd       REAL NOT NULL DEFAULT 0
);

CREATE INDEX schedule_runs_of_schedule ON schedule_runs (schedule_id, position);
CREATE INDEX schedule_runs_open ON schedule_runs (state, position) WHERE state IN ('running', 'delivering');
CREATE INDEX schedule_runs_by_message ON schedule_runs (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX schedule_runs_by_time ON schedule_runs (started_at);

CREATE TABLE schedules_paused (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    since      TEXT NOT NULL,
    by         TEXT NOT NULL,
    where_from TEXT NOT NULL
);

-- Whether agents may make schedules by themselves: allow, ask (an admin decides) or deny.
ALTER TABLE agent_groups ADD COLUMN schedules TEXT NOT NULL DEFAULT 'ask' CHECK (schedules IN ('allow', 'ask', 'deny'));
