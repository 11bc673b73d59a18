-- history.db: what was said and done in all sessions, derived from their folders; it can be made again at any time.

-- How far each session was read. `signature` says which state of its two files that was; none: read them again.
CREATE TABLE sessions (
    session_id      TEXT PRIMARY KEY,
    agent_group_id  TEXT NOT NULL,
    signature       TEXT,
    inbound_cursor  INTEGER NOT NULL,        -- the last seq of messages_in that was taken
    outbound_cursor INTEGER NOT NULL,        -- of messages_out
    steps_cursor    INTEGER NOT NULL,        -- of steps
    place           INTEGER NOT NULL         -- of the last message that went out
);

-- One row for each row of a session's files. Order is (place, source, seq), never a time: an incoming message stands at
-- its seq, an outgoing one behind the message it answers and never before its predecessor. Steps have no place; they
-- are put before the first message of their turn when they are shown.
CREATE TABLE entries (
    position     INTEGER PRIMARY KEY,        -- the order in which history took them
    session_id   TEXT NOT NULL,
    source       TEXT NOT NULL,              -- messages_in, messages_out or steps
    seq          INTEGER NOT NULL,
    place        INTEGER,
    role         TEXT NOT NULL,
    kind         TEXT,
    message_id   TEXT,
    turn_id      TEXT,
    in_reply_to  TEXT,
    generation   INTEGER,
    trigger      INTEGER,
    sender_id    TEXT,
    sender_name  TEXT,
    channel_type TEXT,
    platform_id  TEXT,
    thread_id    TEXT,
    destination  TEXT,
    time         TEXT,
    text         TEXT,                       -- what people read
    content      TEXT,                       -- JSON as it stands in the file; none: it is the text and nothing else
    tool_name    TEXT,
    tool_call_id TEXT,
    tool_calls   TEXT,
    reasoning    TEXT,
    usage        TEXT,
    spoken       TEXT,                       -- the text as words are looked up in it, where that is another
    called       TEXT                        -- names and arguments of tools, as words and substrings are looked up
);

CREATE UNIQUE INDEX entries_once ON entries (session_id, source, seq);
CREATE INDEX entries_in_order ON entries (session_id, place, source, seq) WHERE place IS NOT NULL;

-- What is looked up: messages, results of tools, and what the model said when it called one. The other steps repeat
-- messages.
CREATE VIEW searchable AS
SELECT e.position, coalesce(e.spoken, e.text) AS spoken, e.called,
    substr(e.session_id, 5) || ' ' || substr(s.agent_group_id, 5) AS label, substr(e.text, 1, 20000) AS text
FROM entries e JOIN sessions s ON s.session_id = e.session_id
WHERE e.source <> 'steps' OR e.role = 'tool' OR e.tool_calls IS NOT NULL;

-- Words and phrases. `label` is the hexadecimal part of the session's and the agent group's id.
CREATE VIRTUAL TABLE words USING fts5 (
    spoken, called, label, content = 'searchable', content_rowid = 'position', columnsize = 0, prefix = '2',
    tokenize = 'unicode61 remove_diacritics 2'
);

-- Pieces of words: every three characters in a row, without their positions. What is found is compared with the text.
CREATE VIRTUAL TABLE pieces USING fts5 (
    text, called, content = 'searchable', content_rowid = 'position', columnsize = 0, detail = none, tokenize = 'trigram'
);

-- The pieces of an index are put together when there are sixteen of them, not four: a message then costs half as much.
INSERT INTO words (words, rank) VALUES ('automerge', 16);

INSERT INTO pieces (pieces, rank) VALUES ('automerge', 16);
