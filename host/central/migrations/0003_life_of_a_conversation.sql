-- The life of a conversation: resets, archive, soft deletion, withdrawn exchanges, turns, usage, budgets, live events.

ALTER TABLE messaging_groups ADD COLUMN timezone TEXT;            -- a name such as Europe/Berlin; none: the setting

ALTER TABLE wirings ADD COLUMN reset TEXT NOT NULL DEFAULT 'none' CHECK (reset IN ('none', 'idle', 'daily', 'both'));
ALTER TABLE wirings ADD COLUMN reset_minutes INTEGER NOT NULL DEFAULT 1440 CHECK (reset_minutes > 0);
ALTER TABLE wirings ADD COLUMN reset_hour INTEGER NOT NULL DEFAULT 4 CHECK (reset_hour BETWEEN 0 AND 23);
ALTER TABLE wirings ADD COLUMN archived TEXT NOT NULL DEFAULT 'refuse' CHECK (archived IN ('refuse', 'reopen'));

ALTER TABLE agent_groups ADD COLUMN budget_usd REAL;              -- for each period; none: no limit
ALTER TABLE agent_groups ADD COLUMN budget_tokens INTEGER;
ALTER TABLE agent_groups ADD COLUMN budget_period TEXT NOT NULL DEFAULT 'month'
    CHECK (budget_period IN ('day', 'month', 'total'));
ALTER TABLE agent_groups ADD COLUMN budget_warned TEXT;           -- the period people were warned in last
ALTER TABLE agent_groups ADD COLUMN allow TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(allow));   -- hosts it may reach
ALTER TABLE agent_groups ADD COLUMN tool_servers TEXT;            -- its MCP servers, as JSON; none: no more tools

ALTER TABLE sessions ADD COLUMN preview TEXT;                     -- the beginning of the first message
ALTER TABLE sessions ADD COLUMN reset_note TEXT;                  -- told to the agent once, in its first context
ALTER TABLE sessions ADD COLUMN summary TEXT;                     -- of the conversation it goes on from, if compressed
ALTER TABLE sessions ADD COLUMN ended_at TEXT;
ALTER TABLE sessions ADD COLUMN deleted_at TEXT;                  -- it is removed for good a while after
ALTER TABLE sessions ADD COLUMN deleted_status TEXT;              -- what it was before
ALTER TABLE sessions ADD COLUMN pointer_provider TEXT;            -- whose resume pointer it is
ALTER TABLE sessions ADD COLUMN pointer_runtime TEXT;
ALTER TABLE sessions ADD COLUMN title_asked INTEGER NOT NULL DEFAULT 0 CHECK (title_asked IN (0, 1));

CREATE UNIQUE INDEX sessions_by_title ON sessions (agent_group_id, title)
    WHERE title IS NOT NULL AND status <> 'deleted';
CREATE INDEX sessions_deleted ON sessions (deleted_at) WHERE status = 'deleted';
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE status = 'ended';
CREATE INDEX sessions_by_parent ON sessions (parent_session_id) WHERE parent_session_id IS NOT NULL;
CREATE INDEX sessions_by_messaging_group ON sessions (messaging_group_id, last_active);
CREATE INDEX sessions_unread ON sessions (last_active) WHERE unread_since IS NOT NULL;
CREATE INDEX wirings_by_agent_group ON wirings (agent_group_id);
CREATE INDEX sessions_by_status ON sessions (status, last_active);

ALTER TABLE ingest ADD COLUMN turn_id TEXT;                       -- the turn that took it, as far as its agent said
ALTER TABLE ingest ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0 CHECK (withdrawn IN (0, 1));

CREATE INDEX ingest_by_outcome ON ingest (status, position) WHERE status = 'failed';
CREATE INDEX ingest_commands ON ingest (position) WHERE kind = 'command' AND status = 'pending';

ALTER TABLE turns ADD COLUMN generation INTEGER;
ALTER TABLE turns ADD COLUMN attempt INTEGER;                     -- 1 is the first
ALTER TABLE turns ADD COLUMN error TEXT;                          -- the sentence the person was told
ALTER TABLE turns ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE turns ADD COLUMN context_tokens INTEGER;
ALTER TABLE turns ADD COLUMN context_window INTEGER;
ALTER TABLE turns ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0 CHECK (withdrawn IN (0, 1));

CREATE INDEX turns_withdrawn ON turns (session_id) WHERE withdrawn = 1;

-- What was used, for good: it outlives the session. One row for each turn.
CREATE TABLE usage (
    turn_id            TEXT NOT NULL,
    session_id         TEXT NOT NULL,
    agent_group_id     TEXT NOT NULL,
    agent_group        TEXT NOT NULL,        -- its name then
    provider           TEXT,
    model              TEXT,
    finished_at        TEXT NOT NULL,
    input_tokens       INTEGER NOT NULL DEFAULT 0,
    output_tokens      INTEGER NOT NULL DEFAULT 0,
    cache_read_tokens  INTEGER NOT NULL DEFAULT 0,
    cache_write_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens   INTEGER NOT NULL DEFAULT 0,
    cost_usd           REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (session_id, turn_id)
);

CREATE INDEX usage_by_agent_group ON usage (agent_group_id, finished_at);
CREATE INDEX usage_by_time ON usage (finished_at);

-- What an agent group used on each day (UTC): what a budget is asked of at every message, however many turns there were.
CREATE TABLE usage_by_day (
    agent_group_id TEXT NOT NULL,
    day            TEXT NOT NULL,
    tokens         INTEGER NOT NULL,         -- of all kinds, as agents say
    cost_usd       REAL NOT NULL,
    called_tokens  INTEGER NOT NULL DEFAULT 0,   -- of model calls, as the gateway saw them
    PRIMARY KEY (agent_group_id, day)
);

-- The chat of a platform an agent group is at home in: where it writes when nobody has asked.
CREATE TABLE home_channels (
    agent_group_id     TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    channel_type       TEXT NOT NULL,
    messaging_group_id TEXT NOT NULL REFERENCES messaging_groups (id) ON DELETE CASCADE,
    created_at         TEXT NOT NULL,
    PRIMARY KEY (agent_group_id, channel_type)
);

-- What live views are told, numbered; the newest are kept.
CREATE TABLE events (
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    at             TEXT NOT NULL,
    kind           TEXT NOT NULL,
    session_id     TEXT,
    agent_group_id TEXT,
    data           TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data))
);

-- The list of sessions that was shown last in a place, so that `/resume 3` means the third of it.
CREATE TABLE shown_lists (
    place    TEXT PRIMARY KEY,
    sessions TEXT NOT NULL CHECK (json_valid(sessions)),
    shown_at TEXT NOT NULL
);
