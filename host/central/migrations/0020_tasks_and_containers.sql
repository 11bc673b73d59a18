-- Tasks that a conversation has handed to conversations of their own: each with its budget and the time by which it is over.

CREATE TABLE delegations (
    id            TEXT PRIMARY KEY,          -- made by the agent that asks: the same at every attempt
    parent_id     TEXT NOT NULL,             -- the session that asked; when it is gone, the task is stopped
    session_id    TEXT NOT NULL UNIQUE REFERENCES sessions (id) ON DELETE CASCADE,
    message_id    TEXT NOT NULL,             -- the task, in the ledger
    budget_tokens INTEGER NOT NULL,
    called_tokens INTEGER NOT NULL DEFAULT 0,   -- as the gateway saw them
    deadline      TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('running', 'stopping', 'done', 'failed', 'stopped', 'late', 'spent')),
    created_at    TEXT NOT NULL,
    finished_at   TEXT
);

CREATE INDEX delegations_open ON delegations (parent_id) WHERE state IN ('running', 'stopping');

-- What agents have got added to their containers: packages, which are a layer on the image of their agent group, and folders.
CREATE TABLE container_changes (
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    session_id     TEXT,                      -- the conversation that asked, which is told; none: the host renews the layer
    kind           TEXT NOT NULL CHECK (kind IN ('packages', 'mount')),
    asked          TEXT NOT NULL,             -- JSON: what is to be added
    state          TEXT NOT NULL CHECK (state IN ('waiting', 'building', 'made', 'ready', 'failed')),
    packages       TEXT,                      -- JSON: all that the layer has
    base           TEXT,                      -- the image that it is built on, by name and by the engine's id
    base_id        TEXT,
    image          TEXT,
    log            TEXT,
    why            TEXT,                      -- it failed
    created_at     TEXT NOT NULL,
    finished_at    TEXT
);

CREATE INDEX container_changes_open ON container_changes (number) WHERE state IN ('waiting', 'building', 'made');
CREATE INDEX container_changes_of ON container_changes (agent_group_id, number);

ALTER TABLE agent_groups ADD COLUMN layer INTEGER;       -- the change whose image its containers have; none: the plain one
ALTER TABLE agent_groups ADD COLUMN layer_image TEXT;    -- that image

-- What an MCP server notifies of may start a run, too. SQLite cannot change a check, so the table is made anew.
CREATE TABLE triggers_of_all (
    schedule_id TEXT PRIMARY KEY REFERENCES schedules (id) ON DELETE CASCADE,
    source      TEXT NOT NULL CHECK (source IN ('file', 'message', 'mcp')),
    place       TEXT NOT NULL,               -- a folder of the workspace; a channel, or the address of a chat; a server
    pattern     TEXT,                        -- of the name of a file (*.pdf), or of the text of a message or notification
    debounce    INTEGER NOT NULL,            -- seconds without a further event before a run begins
    per_hour    INTEGER NOT NULL             -- runs
);
INSERT INTO triggers_of_all SELECT schedule_id, source, place, pattern, debounce, per_hour FROM triggers;
DROP TABLE triggers;
ALTER TABLE triggers_of_all RENAME TO triggers;
CREATE INDEX triggers_by_place ON triggers (source, place);
