-- inbound.db, written by the host alone. Order is seq, never a time.

CREATE TABLE messages_in (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT NOT NULL UNIQUE,
    kind              TEXT NOT NULL CHECK (kind IN ('chat', 'task', 'agent', 'system', 'control')),
    timestamp         TEXT NOT NULL,
    generation        INTEGER NOT NULL,
    trigger           INTEGER NOT NULL CHECK (trigger IN (0, 1)),      -- 0: context that never starts a turn
    status            TEXT NOT NULL DEFAULT 'pending'
                      CHECK (status IN ('pending', 'completed', 'failed', 'cancelled')),
    tries             INTEGER NOT NULL DEFAULT 0,                      -- turns that died over this message
    process_after     TEXT,                                            -- not before this time
    series_id         TEXT,
    channel_type      TEXT,
    platform_id       TEXT,
    thread_id         TEXT,
    sender_id         TEXT,
    sender_name       TEXT,
    source_session_id TEXT,
    content           TEXT NOT NULL CHECK (json_valid(content))
);

CREATE INDEX messages_in_pending ON messages_in (seq) WHERE status = 'pending';

CREATE TABLE delivered (
    message_out_id      TEXT PRIMARY KEY,
    status              TEXT NOT NULL CHECK (status IN ('delivered', 'failed', 'uncertain')),
    platform_message_id TEXT,
    error               TEXT,
    attempts            INTEGER NOT NULL,
    delivered_at        TEXT NOT NULL
);

CREATE TABLE destinations (
    name           TEXT PRIMARY KEY,
    display_name   TEXT,
    type           TEXT NOT NULL CHECK (type IN ('messaging_group', 'agent_group')),
    channel_type   TEXT,
    platform_id    TEXT,
    agent_group_id TEXT
);

CREATE TABLE session_routing (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    channel_type TEXT,
    platform_id  TEXT,
    thread_id    TEXT
);

CREATE TABLE session_context (
    key   TEXT PRIMARY KEY,
    value TEXT
);
