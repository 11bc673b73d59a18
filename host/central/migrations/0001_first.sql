-- central.db: the registry, and the ledger of every accepted message. The host alone.

CREATE TABLE install (
    id         TEXT PRIMARY KEY,
    created_at TEXT NOT NULL
);

CREATE TABLE agent_groups (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    folder       TEXT NOT NULL UNIQUE,       -- of its workspace, below agents/
    provider     TEXT NOT NULL,
    model        TEXT,
    image        TEXT,                       -- none: the setting
    memory_bytes INTEGER,
    cpus         REAL,
    pids         INTEGER,
    mounts       TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(mounts)),
    created_at   TEXT NOT NULL
);

CREATE TABLE messaging_groups (
    id           TEXT PRIMARY KEY,
    channel_type TEXT NOT NULL,
    platform_id  TEXT NOT NULL,
    name         TEXT,
    is_group     INTEGER NOT NULL CHECK (is_group IN (0, 1)),
    created_at   TEXT NOT NULL,
    UNIQUE (channel_type, platform_id)
);

CREATE TABLE wirings (
    id                 TEXT PRIMARY KEY,
    messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id) ON DELETE CASCADE,
    agent_group_id     TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    session_mode       TEXT NOT NULL CHECK (session_mode IN ('shared', 'per-thread', 'agent-shared')),
    per_user           INTEGER NOT NULL CHECK (per_user IN (0, 1)),
    engage             TEXT NOT NULL CHECK (engage IN ('all', 'mention', 'pattern')),
    pattern            TEXT,
    created_at         TEXT NOT NULL,
    UNIQUE (messaging_group_id, agent_group_id),
    CHECK ((engage = 'pattern') = (pattern IS NOT NULL))
);

CREATE TABLE agent_destinations (
    agent_group_id     TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    name               TEXT NOT NULL,
    messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id) ON DELETE CASCADE,
    created_at         TEXT NOT NULL,
    PRIMARY KEY (agent_group_id, name)
);

CREATE TABLE routes (
    id                TEXT PRIMARY KEY,
    agent_group_id    TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    route_key         TEXT NOT NULL,
    active_session_id TEXT REFERENCES sessions (id) ON DELETE SET NULL,
    generation        INTEGER NOT NULL DEFAULT 1,
    sender_id         TEXT,                  -- of the one person it is for; none: several may speak
    UNIQUE (agent_group_id, route_key)
);

CREATE TABLE sessions (
    id                  TEXT PRIMARY KEY,
    agent_group_id      TEXT NOT NULL REFERENCES agent_groups (id),
    route_id            TEXT NOT NULL REFERENCES routes (id),
    messaging_group_id  TEXT REFERENCES messaging_groups (id) ON DELETE SET NULL,
    thread_id           TEXT,
    generation          INTEGER NOT NULL,    -- output of another generation is kept and never sent
    kind                TEXT NOT NULL CHECK (kind IN ('chat', 'heartbeat', 'schedule', 'agent')),
    status              TEXT NOT NULL CHECK (status IN ('active', 'ended', 'archived', 'deleted')),
    end_reason          TEXT,
    title               TEXT,
    title_source        TEXT,
    parent_session_id   TEXT REFERENCES sessions (id) ON DELETE SET NULL,
    parent_relation     TEXT,
    provider_session_id TEXT,
    work_dir            TEXT,
    runtime             TEXT,
    unread_since        TEXT,
    created_at          TEXT NOT NULL,
    last_active         TEXT NOT NULL,
    next_due_at         TEXT,
    out_cursor          INTEGER NOT NULL DEFAULT 0,   -- the last seq of messages_out that was copied
    turn_cursor         INTEGER NOT NULL DEFAULT 0,   -- the last row of outbound.db: turns that was copied
    run_id              TEXT,                -- the last agent that was started
    run_settled         INTEGER NOT NULL DEFAULT 1 CHECK (run_settled IN (0, 1)),   -- 0: it may live, or died uncounted
    start_failures      INTEGER NOT NULL DEFAULT 0    -- agents in a row that died before touching a message
);

CREATE INDEX sessions_by_agent_group ON sessions (agent_group_id, last_active);
CREATE INDEX sessions_by_activity ON sessions (last_active);
CREATE INDEX sessions_by_route ON sessions (route_id);
CREATE INDEX sessions_unsettled ON sessions (id) WHERE run_settled = 0;

-- One row for each accepted event and agent group: the dedupe key, what to write, and its one outcome.
CREATE TABLE ingest (
    position            INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of acceptance
    message_id          TEXT NOT NULL UNIQUE,
    agent_group_id      TEXT NOT NULL,
    session_id          TEXT REFERENCES sessions (id) ON DELETE SET NULL,
    generation          INTEGER NOT NULL,
    channel_type        TEXT NOT NULL,
    platform_id         TEXT NOT NULL,
    thread_id           TEXT,
    platform_message_id TEXT NOT NULL,
    sender_id           TEXT,
    sender_name         TEXT,
    kind                TEXT NOT NULL,
    trigger             INTEGER NOT NULL CHECK (trigger IN (0, 1)),
    content             TEXT NOT NULL,
    spool               TEXT,                -- the folder below spool/ that holds its files
    accepted_at         TEXT NOT NULL,
    state               TEXT NOT NULL DEFAULT 'accepted' CHECK (state IN ('accepted', 'written')),
    status              TEXT NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'completed', 'failed', 'cancelled')),
    tries               INTEGER NOT NULL DEFAULT 0,
    error               TEXT,
    finished_at         TEXT,
    recorded            INTEGER NOT NULL DEFAULT 1 CHECK (recorded IN (0, 1)),  -- 0: inbound.db does not say so yet
    UNIQUE (agent_group_id, channel_type, platform_id, platform_message_id)
);

CREATE INDEX ingest_open ON ingest (session_id, position) WHERE status = 'pending';
CREATE INDEX ingest_accepted ON ingest (position) WHERE state = 'accepted' AND status = 'pending';
CREATE INDEX ingest_unrecorded ON ingest (session_id) WHERE recorded = 0;
CREATE INDEX ingest_by_session ON ingest (session_id, position);

-- Everything that goes out, in the order it will be sent to its chat.
CREATE TABLE deliveries (
    position            INTEGER PRIMARY KEY AUTOINCREMENT,
    message_out_id      TEXT NOT NULL,
    session_id          TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    turn_id             TEXT,
    in_reply_to         TEXT,
    kind                TEXT NOT NULL,
    from_host           INTEGER NOT NULL DEFAULT 0 CHECK (from_host IN (0, 1)),   -- 1: a notice of the host's own
    channel_type        TEXT NOT NULL,
    platform_id         TEXT NOT NULL,
    thread_id           TEXT,
    content             TEXT NOT NULL,
    deliver_after       TEXT,
    created_at          TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'sending', 'delivered', 'failed', 'uncertain', 'suppressed')),
    attempts            INTEGER NOT NULL DEFAULT 0,
    platform_message_id TEXT,
    error               TEXT,
    finished_at         TEXT,
    recorded            INTEGER NOT NULL DEFAULT 1 CHECK (recorded IN (0, 1)),
    UNIQUE (session_id, message_out_id)
);

CREATE INDEX deliveries_open ON deliveries (channel_type, platform_id, position) WHERE status IN ('pending', 'sending');
CREATE INDEX deliveries_unrecorded ON deliveries (session_id) WHERE recorded = 0;
CREATE INDEX deliveries_by_session ON deliveries (session_id, position);
CREATE INDEX deliveries_failed ON deliveries (finished_at) WHERE status IN ('failed', 'uncertain');

-- The host's copy of every turn.
CREATE TABLE turns (
    session_id          TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    id                  TEXT NOT NULL,
    status              TEXT NOT NULL,
    started_at          TEXT NOT NULL,
    finished_at         TEXT,
    failure_reason      TEXT,
    provider            TEXT,
    model               TEXT,
    provider_session_id TEXT,
    input_tokens        INTEGER,
    output_tokens       INTEGER,
    cache_read_tokens   INTEGER,
    cache_write_tokens  INTEGER,
    cost_usd            REAL,
    PRIMARY KEY (session_id, id)
);

CREATE INDEX turns_running ON turns (session_id) WHERE status = 'running';

-- Rows and files of an agent that were refused, and events nobody is wired for: kept for people to look at, bounded.
CREATE TABLE refusals (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    what       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE INDEX refusals_by_session ON refusals (session_id, position);

CREATE TABLE dropped_messages (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_type TEXT NOT NULL,
    platform_id  TEXT NOT NULL,
    sender_id    TEXT,
    reason       TEXT NOT NULL,
    created_at   TEXT NOT NULL
);

-- What was delivered to the terminal, until somebody reads it there.
CREATE TABLE terminal_mailbox (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    message_out_id TEXT NOT NULL UNIQUE,
    platform_id    TEXT NOT NULL,
    thread_id      TEXT,
    in_reply_to    TEXT,
    content        TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    read_at        TEXT
);

CREATE INDEX terminal_mailbox_unread ON terminal_mailbox (platform_id, position) WHERE read_at IS NULL;
