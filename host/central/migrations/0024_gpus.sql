-- How many GPUs an agent of a group gets; null: none.

ALTER TABLE agent_groups ADD COLUMN gpus INTEGER;
