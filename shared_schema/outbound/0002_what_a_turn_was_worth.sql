-- Turns say to which conversation they belong, how full the model's memory is, and whether a resume pointer was refused.

ALTER TABLE turns ADD COLUMN generation INTEGER;
ALTER TABLE turns ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE turns ADD COLUMN context_tokens INTEGER;    -- of the model's window, at the end of the turn
ALTER TABLE turns ADD COLUMN context_window INTEGER;
ALTER TABLE turns ADD COLUMN resume_refused INTEGER NOT NULL DEFAULT 0;
