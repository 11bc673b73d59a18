-- An agent group has models that answer in place of its own, and a turn says when one did, and why.

ALTER TABLE agent_groups ADD COLUMN fallbacks TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(fallbacks));
ALTER TABLE turns ADD COLUMN fallback TEXT;
