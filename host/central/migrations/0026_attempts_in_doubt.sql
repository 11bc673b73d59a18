-- An attempt to send a message that ended without an answer may have arrived, although none is known to have succeeded;
-- and how often the channel itself failed over it, which is not the platform's state and does not pass.

ALTER TABLE deliveries ADD COLUMN may_have_arrived INTEGER NOT NULL DEFAULT 0 CHECK (may_have_arrived IN (0, 1));
ALTER TABLE deliveries ADD COLUMN breaks INTEGER NOT NULL DEFAULT 0;
