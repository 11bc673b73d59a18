"""Questions that agents have put to people: `deliveries` of kind `question`, whose answer is due from those people."""

from __future__ import annotations

import sqlite3

from host.central.database import one
from shared_schema.rows import Address

# A question waits until its time is over or anybody has written to its session. It stands among what was sent last.
IS_OPEN = """
SELECT 1 FROM (
    SELECT d.* FROM routes r JOIN deliveries d ON d.session_id = r.active_session_id
    WHERE r.agent_group_id = :agent_group_id AND r.route_key = :route_key
    ORDER BY d.position DESC LIMIT 20
) asked
WHERE asked.kind = 'question' AND asked.status <> 'suppressed'
  AND asked.channel_type = :channel_type AND asked.platform_id = :platform_id
  AND CASE WHEN json_valid(asked.content) THEN json_extract(asked.content, '$.expires') END > :now
  AND NOT EXISTS (
      SELECT 1 FROM ingest i
      WHERE i.session_id = asked.session_id AND i.position > asked.after_position AND i.trigger = 1
  )
"""


def is_open(connection: sqlite3.Connection, agent_group_id: str, route_key: str, address: Address, now: str) -> bool:
    """Whether the conversation of a route waits for an answer in that chat: the next message there is one."""
    parameters = {
        "agent_group_id": agent_group_id,
        "route_key": route_key,
        "channel_type": address.channel_type,
        "platform_id": address.platform_id,
        "now": now,
    }
    return one(connection, IS_OPEN, parameters) is not None
