-- An agent group may write to other agent groups, each by a name. It shares its names with agent_destinations.

CREATE TABLE agent_links (
    agent_group_id TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    name           TEXT NOT NULL,
    target_id      TEXT NOT NULL REFERENCES agent_groups (id) ON DELETE CASCADE,
    created_at     TEXT NOT NULL,
    PRIMARY KEY (agent_group_id, name)
);

CREATE INDEX agent_links_by_target ON agent_links (target_id);
