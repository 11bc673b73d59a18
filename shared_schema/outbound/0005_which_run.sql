-- A turn says which run of the agent made it: the host takes rows of the run that it started, and of no other.

ALTER TABLE turns ADD COLUMN run INTEGER;
