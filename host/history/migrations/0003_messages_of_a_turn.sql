-- A step is where the messages of its turn are: each one that was found looked through all messages of its session.
CREATE INDEX entries_of_turn ON entries (session_id, turn_id, place, source, seq) WHERE source = 'messages_out';
