-- Long messages go out in parts, and a crash between two of them repeats none. An answer may grow in a message of the
-- chat, which becomes the whole of it. What a chat is shown while an agent works is set for each wiring.

ALTER TABLE deliveries ADD COLUMN parts INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN parts_sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN is_doubtful INTEGER NOT NULL DEFAULT 0 CHECK (is_doubtful IN (0, 1));   -- of a part

CREATE TABLE drafts (
    session_id          TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    channel_type        TEXT NOT NULL,
    platform_id         TEXT NOT NULL,
    thread_id           TEXT,
    platform_message_id TEXT NOT NULL,
    created_at          TEXT NOT NULL
);

ALTER TABLE wirings ADD COLUMN progress TEXT NOT NULL DEFAULT 'typing' CHECK (progress IN ('off', 'typing', 'draft'));
