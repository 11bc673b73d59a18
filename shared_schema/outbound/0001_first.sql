-- outbound.db, made by the host with the folder, written by the agent alone. Order is seq, never a time.

CREATE TABLE messages_out (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    turn_id       TEXT,
    in_reply_to   TEXT,                -- the id of the message in messages_in that this answers
    generation    INTEGER NOT NULL,
    timestamp     TEXT NOT NULL,
    deliver_after TEXT,
    kind          TEXT NOT NULL CHECK (kind IN ('chat', 'edit', 'reaction', 'card', 'question', 'system')),
    destination   TEXT,                -- a name in destinations; none: the reply address of in_reply_to
    channel_type  TEXT,
    platform_id   TEXT,
    thread_id     TEXT,
    content       TEXT NOT NULL CHECK (json_valid(content))
);

CREATE TABLE processing_ack (
    message_id     TEXT PRIMARY KEY,
    status         TEXT NOT NULL CHECK (status IN ('processing', 'completed', 'failed')),
    turn_id        TEXT,
    error          TEXT,
    status_changed TEXT NOT NULL
);

CREATE TABLE turns (
    id                  TEXT PRIMARY KEY,
    status              TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
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
    cost_usd            REAL
);

CREATE TABLE steps (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    turn_id      TEXT NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content      TEXT,
    tool_name    TEXT,
    tool_call_id TEXT,
    tool_calls   TEXT,
    reasoning    TEXT,
    usage        TEXT,
    timestamp    TEXT NOT NULL
);

CREATE TABLE session_state (
    key        TEXT PRIMARY KEY,
    value      TEXT,
    updated_at TEXT NOT NULL
);

CREATE TABLE agent_state (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    state            TEXT NOT NULL CHECK (state IN ('starting', 'idle', 'working', 'stopping')),
    current_tool     TEXT,
    tool_deadline    TEXT,
    turn_id          TEXT,
    contract_version INTEGER NOT NULL,
    updated_at       TEXT NOT NULL
);
