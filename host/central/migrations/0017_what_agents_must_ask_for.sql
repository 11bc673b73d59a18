-- What an agent may do by itself, asks for or may not: by act. Which calls of its tools wait for a yes. A yes to such a
-- call, until when: none is as long as the conversation.

ALTER TABLE agent_groups ADD COLUMN policies TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(policies));
ALTER TABLE agent_groups ADD COLUMN instructions TEXT;   -- what its AGENT.md says when its workspace is made
ALTER TABLE agent_groups ADD COLUMN ask_before TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(ask_before));

CREATE TABLE call_grants (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    call       TEXT NOT NULL,
    until      TEXT,
    PRIMARY KEY (session_id, call)
);
