"""Every statement the agent runs on `outbound.db`, by name; used by `outbox.py` alone."""

# Whether a turn was ever completed here.
ANY_COMPLETED_TURN = "SELECT 1 FROM turns WHERE status = 'completed' LIMIT 1"

# Which of a JSON array of message ids have an acknowledgement that counts: the array, the run twice.
ACKNOWLEDGED = """
SELECT a.message_id FROM processing_ack AS a LEFT JOIN turns AS t ON t.id = a.turn_id
WHERE a.message_id IN (SELECT value FROM json_each(?)) AND (t.run IS NULL OR ? IS NULL OR t.run = ?)
"""

# A turn begins: id, started_at, provider, model, generation, run.
INSERT_TURN = """
INSERT INTO turns (id, status, started_at, provider, model, generation, run) VALUES (?, 'running', ?, ?, ?, ?, ?)
"""

# A message is taken, or acknowledged without a turn: message_id, status, turn_id, error, status_changed.
INSERT_ACK = "INSERT INTO processing_ack (message_id, status, turn_id, error, status_changed) VALUES (?, ?, ?, ?, ?)"

# An earlier run's acknowledgement of a message that is taken again goes: message_id, the run.
DELETE_EARLIER_ACK = """
DELETE FROM processing_ack WHERE message_id = ? AND turn_id IN (SELECT id FROM turns WHERE id = turn_id AND run <> ?)
"""

# The messages of a turn get their final status: status, error, status_changed, turn_id.
SET_ACKS = "UPDATE processing_ack SET status = ?, error = ?, status_changed = ? WHERE turn_id = ?"

# The messages of a turn are pending again: turn_id.
DELETE_ACKS = "DELETE FROM processing_ack WHERE turn_id = ?"

# The messages of a dead process are pending again.
DELETE_PROCESSING_ACKS = "DELETE FROM processing_ack WHERE status = 'processing'"

# What the turn of a dead process used, as far as its steps say.
USED_IN_RUNNING_TURNS = """
SELECT s.usage FROM steps AS s JOIN turns AS t ON t.id = s.turn_id WHERE t.status = 'running' AND s.usage IS NOT NULL
"""

# The turn of a dead process has failed: finished_at, failure_reason.
FAIL_RUNNING_TURNS = "UPDATE turns SET status = 'failed', finished_at = ?, failure_reason = ? WHERE status = 'running'"

# A running turn ends: status, finished_at, failure_reason, six of usage, provider_session_id, context_tokens,
# context_window, resume_refused, stop_reason, detail, model (none: the one it began with), fallback, id.
FINISH_TURN = """
UPDATE turns SET status = ?, finished_at = ?, failure_reason = ?, input_tokens = ?, output_tokens = ?,
       cache_read_tokens = ?, cache_write_tokens = ?, cost_usd = ?, reasoning_tokens = ?, provider_session_id = ?,
       context_tokens = ?, context_window = ?, resume_refused = ?, stop_reason = ?, detail = ?,
       model = coalesce(?, model), fallback = ?
WHERE id = ? AND status = 'running'
"""

# A message goes out. No address: the host takes it from in_reply_to or destination.
INSERT_MESSAGE = """
INSERT INTO messages_out (id, turn_id, in_reply_to, generation, timestamp, kind, destination, content)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

# One entry of the transcript.
INSERT_STEP = """
INSERT INTO steps (turn_id, role, content, tool_name, tool_call_id, tool_calls, reasoning, usage, timestamp)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

# The transcript, as far as it counts: without the turns of a JSON array of ids, the turn that runs, and turns whose
# messages were taken again. What the host put in at the beginning belongs to no turn here. (Version 1: `agent died`.)
HISTORY = """
SELECT s.role, s.content, s.tool_name, s.tool_call_id, s.tool_calls, s.reasoning, s.usage
FROM steps AS s LEFT JOIN turns AS t ON t.id = s.turn_id
WHERE s.turn_id NOT IN (SELECT value FROM json_each(?))
    AND (t.id IS NULL OR t.status = 'completed'
         OR t.status <> 'running' AND t.failure_reason NOT IN ('agent_died', 'agent died'))
ORDER BY s.seq
"""

# Where a message stands that went out: id.
OUT_SEQ = "SELECT seq FROM messages_out WHERE id = ?"

# The newest message that people can see: generation.
LAST_MESSAGE = """
SELECT seq FROM messages_out WHERE generation = ? AND kind IN ('chat', 'card', 'question') ORDER BY seq DESC LIMIT 1
"""

# The newest messages of a generation: generation, how many.
NEWEST_MESSAGES = """
SELECT id, seq FROM messages_out
WHERE generation = ? AND kind <> 'system' AND typeof(id) = 'text' AND length(id) <= 200 ORDER BY seq DESC LIMIT ?
"""

# A value of the agent's own: key.
STATE_VALUE = "SELECT value FROM session_state WHERE key = ?"

# Record a value of the agent's own: key, value, updated_at.
SET_STATE_VALUE = """
INSERT INTO session_state (key, value, updated_at) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
"""

# Take a value of the agent's own away: key.
DELETE_STATE_VALUE = "DELETE FROM session_state WHERE key = ?"

# What the agent is doing: state, current_tool, tool_deadline, turn_id, contract_version, updated_at.
SET_AGENT_STATE = """
INSERT INTO agent_state (id, state, current_tool, tool_deadline, turn_id, contract_version, updated_at)
VALUES (1, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, current_tool = excluded.current_tool,
    tool_deadline = excluded.tool_deadline, turn_id = excluded.turn_id,
    contract_version = excluded.contract_version, updated_at = excluded.updated_at
"""
