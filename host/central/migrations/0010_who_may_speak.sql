-- Who may speak and who answers: users, roles, approvals, the audit log, what the host says by itself, engage rules.

-- Chats that exist already go on as they were; what is added later says its rule.
ALTER TABLE messaging_groups ADD COLUMN unknown_sender TEXT NOT NULL DEFAULT 'public'
    CHECK (unknown_sender IN ('strict', 'pair', 'public'));

ALTER TABLE wirings ADD COLUMN sender_scope TEXT NOT NULL DEFAULT 'all' CHECK (sender_scope IN ('all', 'members'));
ALTER TABLE wirings ADD COLUMN sticky INTEGER NOT NULL DEFAULT 0 CHECK (sticky IN (0, 1));   -- of engage 'mention'
ALTER TABLE wirings ADD COLUMN non_engaging TEXT NOT NULL DEFAULT 'drop' CHECK (non_engaging IN ('drop', 'accumulate'));
ALTER TABLE wirings ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;          -- the highest is asked first
ALTER TABLE wirings ADD COLUMN agent_replies TEXT NOT NULL DEFAULT 'ignore'  -- what other agents say in the chat
    CHECK (agent_replies IN ('ignore', 'context', 'engage'));

ALTER TABLE ingest ADD COLUMN hops INTEGER NOT NULL DEFAULT 0;   -- answers of agents to agents since a person wrote

-- Threads in which an agent group with engage 'mention-sticky' was mentioned: it takes all that is written there.
CREATE TABLE engaged_threads (
    wiring_id  TEXT NOT NULL REFERENCES wirings (id) ON DELETE CASCADE,
    thread_id  TEXT NOT NULL,
    engaged_at TEXT NOT NULL,
    PRIMARY KEY (wiring_id, thread_id)
);

-- A person has one or more users: `<channel>:<handle>`. Roles belong to the person.
CREATE TABLE people (
    id         TEXT PRIMARY KEY,
    name       TEXT,
    created_at TEXT NOT NULL
);

CREATE TABLE users (
    id          TEXT PRIMARY KEY,            -- <channel>:<handle>
    person_id   TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    name        TEXT,                        -- as the platform says
    direct_chat TEXT,                        -- the platform id of their direct chat with the bot
    created_at  TEXT NOT NULL
);

CREATE INDEX users_by_person ON users (person_id);

CREATE TABLE user_roles (
    person_id      TEXT NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    role           TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    agent_group_id TEXT REFERENCES agent_groups (id) ON DELETE CASCADE,   -- none: of all
    granted_at     TEXT NOT NULL,
    CHECK (role <> 'owner' OR agent_group_id IS NULL)
);

CREATE UNIQUE INDEX user_roles_once ON user_roles (person_id, role, coalesce(agent_group_id, ''));
CREATE INDEX user_roles_by_role ON user_roles (role);
CREATE INDEX user_roles_by_agent_group ON user_roles (agent_group_id) WHERE agent_group_id IS NOT NULL;

-- The code with which the first owner is claimed: one, for an hour.
CREATE TABLE owner_claim (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    code         TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    wrong_tries  INTEGER NOT NULL DEFAULT 0,
    locked_until TEXT
);

-- What people with a role decide. `arguments` are all that it is about, and all shown.
CREATE TABLE approvals (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    code           TEXT NOT NULL UNIQUE,     -- what people type
    kind           TEXT NOT NULL,
    subject        TEXT NOT NULL,            -- one open approval for each kind and subject
    arguments      TEXT NOT NULL CHECK (json_valid(arguments)),
    role           TEXT NOT NULL CHECK (role IN ('owner', 'admin')),     -- who may decide
    agent_groups   TEXT CHECK (agent_groups IS NULL OR json_valid(agent_groups)),   -- ids: their admins may; none: owners and admins of all
    state          TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'denied', 'expired')),
    waiting        TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(waiting)),   -- events that are answered after a yes
    repeats        INTEGER NOT NULL DEFAULT 0,   -- how often the same was asked since
    created_at     TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    decided_at     TEXT,
    decided_by     TEXT,
    decided_from   TEXT,
    choice         TEXT,
    outcome        TEXT
);

CREATE UNIQUE INDEX approvals_open ON approvals (kind, subject) WHERE state = 'pending';
CREATE INDEX approvals_expiring ON approvals (expires_at) WHERE state = 'pending';
CREATE INDEX approvals_by_subject ON approvals (kind, subject, position);
CREATE INDEX approvals_to_replay ON approvals (position) WHERE state = 'approved' AND waiting <> '[]';

-- What the host says outside of any conversation: cards of approvals, sentences to strangers, answers to commands in
-- chats without an agent. `edits` names the message that this one takes the place of.
CREATE TABLE host_messages (
    position            INTEGER PRIMARY KEY AUTOINCREMENT,
    key                 TEXT NOT NULL UNIQUE,
    channel_type        TEXT NOT NULL,
    platform_id         TEXT,                -- none: the direct chat of `to_user`, which is still to be opened
    to_user             TEXT,
    thread_id           TEXT,
    content             TEXT NOT NULL CHECK (json_valid(content)),
    approval_id         TEXT,
    edits               TEXT,
    created_at          TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'sending', 'delivered', 'failed', 'uncertain', 'suppressed')),
    attempts            INTEGER NOT NULL DEFAULT 0,
    platform_message_id TEXT,
    error               TEXT,
    finished_at         TEXT
);

CREATE INDEX host_messages_open ON host_messages (channel_type, position) WHERE status IN ('pending', 'sending');
CREATE INDEX host_messages_by_approval ON host_messages (approval_id) WHERE approval_id IS NOT NULL;

-- Every change by a person: who, from where, what, before and after.
CREATE TABLE audit (
    position     INTEGER PRIMARY KEY AUTOINCREMENT,
    at           TEXT NOT NULL,
    who          TEXT NOT NULL,
    where_from   TEXT NOT NULL,
    action       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    before       TEXT CHECK (before IS NULL OR json_valid(before)),
    after        TEXT CHECK (after IS NULL OR json_valid(after))
);

-- What was dropped is counted: the same again is no further row.
ALTER TABLE dropped_messages ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dropped_messages ADD COLUMN last_at TEXT;

CREATE INDEX dropped_messages_by_sender ON dropped_messages (channel_type, platform_id, sender_id, reason);
CREATE INDEX dropped_messages_by_time ON dropped_messages (coalesce(last_at, created_at), position);
