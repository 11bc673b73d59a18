-- Events from outside that start a run: a file that appears in a folder of the workspace, a message on a channel.

CREATE TABLE triggers (
    schedule_id TEXT PRIMARY KEY REFERENCES schedules (id) ON DELETE CASCADE,
    source      TEXT NOT NULL CHECK (source IN ('file', 'message')),
    place       TEXT NOT NULL,               -- a folder of the workspace; a channel, or the address of a chat
    pattern     TEXT,                        -- of the name of a file (*.pdf), or of the text of a message
    debounce    INTEGER NOT NULL,            -- seconds without a further event before a run begins
    per_hour    INTEGER NOT NULL             -- runs
);

CREATE INDEX triggers_by_place ON triggers (source, place);

CREATE TABLE trigger_events (
    position    INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    key         TEXT NOT NULL,               -- the same event that is seen twice counts once
    at          TEXT NOT NULL,
    text        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'taken', 'dropped')),
    UNIQUE (schedule_id, key)
);

CREATE INDEX trigger_events_waiting ON trigger_events (schedule_id, position) WHERE state = 'waiting';
