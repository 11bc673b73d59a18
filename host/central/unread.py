"""Since when a conversation has something unread: set by the first unread reply, cleared by reading.

Reading is what a platform says, or that the person writes in the chat. What is archived counts as read.
"""

from __future__ import annotations

from host.central.database import Transaction

# A letter of the terminal may have been taken out of the mailbox before its delivery is noted.
REPLIED = """
UPDATE sessions SET unread_since = :now
WHERE id = :session_id AND kind = 'chat' AND unread_since IS NULL AND status <> 'archived'
  AND NOT EXISTS (SELECT 1 FROM terminal_mailbox WHERE message_out_id = :key AND read_at IS NOT NULL)
"""
READ = "UPDATE sessions SET unread_since = NULL WHERE id = ? AND unread_since IS NOT NULL"
WROTE = """
UPDATE sessions INDEXED BY sessions_unread_in_chat SET unread_since = NULL
WHERE messaging_group_id = :chat AND unread_since IS NOT NULL AND status IN ('active', 'archived')
  AND (thread_id IS NULL OR thread_id = :thread_id)
"""
# Sessions of the whole chat are read with any thread of it; one of all chats of its agent group is read in any of them.
READ_IN_CHAT = """
UPDATE sessions SET unread_since = NULL
WHERE unread_since IS NOT NULL AND (thread_id IS NULL OR thread_id = :thread_id) AND (
    messaging_group_id = :chat
    OR (messaging_group_id IS NULL AND agent_group_id IN (
        SELECT agent_group_id FROM wirings WHERE messaging_group_id = :chat AND session_mode = 'agent-shared')))
"""


def note_reply(tx: Transaction, session_id: str, message_out_id: str) -> None:
    """Note that a reply has arrived, unread. The first one since the last reading counts."""
    tx.execute(REPLIED, {"session_id": session_id, "key": f"{session_id}/{message_out_id}", "now": tx.now})


def mark_read(tx: Transaction, *session_ids: str) -> None:
    """Note that a person has read these sessions."""
    tx.executemany(READ, [(session_id,) for session_id in session_ids])


def wrote(tx: Transaction, messaging_group_id: str, thread_id: str | None) -> None:
    """Note that a person has written in a chat, and so has seen what stands there."""
    tx.execute(WROTE, {"chat": messaging_group_id, "thread_id": thread_id})


def mark_read_in_chat(tx: Transaction, messaging_group_id: str, thread_id: str | None) -> None:
    """Note that a person has read a chat: the sessions of it and, with a thread, of that thread."""
    tx.execute(READ_IN_CHAT, {"chat": messaging_group_id, "thread_id": thread_id})
