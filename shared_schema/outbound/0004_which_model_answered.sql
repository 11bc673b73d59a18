-- A turn says why another model than the agent group's answered; `model` is then the one that did.

ALTER TABLE turns ADD COLUMN fallback TEXT;
