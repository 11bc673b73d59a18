"""The titles of sessions: unique in their agent group, set by a person, by the agent, or from the first words.

A person's word is final, that there be no title included: `title_source` is `manual` then. The agent is asked once for
each session, and its title comes in only where the first words stand or nothing does. A session that is deleted and can
still be restored does not hold its title.
"""

from __future__ import annotations

from enum import StrEnum

from host.central import title as form
from host.central.database import Queryable, Transaction, one
from host.central.events import EventKind
from host.central.events import add as tell
from host.central.sessions import Session
from shared_schema.errors import Conflict, InvalidValue

HELD = "SELECT id FROM sessions WHERE agent_group_id = ? AND title = ? AND status <> 'deleted' AND id <> ?"
OF_LINEAGE = """
SELECT title FROM sessions WHERE agent_group_id = :agent_group_id AND status <> 'deleted' AND id <> :session_id
  AND (title = :base OR (title > :first AND title < :last))
"""
NAMED = """
SELECT id, agent_group_id, title FROM sessions
WHERE agent_group_id IN (SELECT id FROM agent_groups WHERE :agent_group_id IS NULL OR id = :agent_group_id)
  AND (title = :base OR (title > :first AND title < :last)) AND (status = 'deleted') = :deleted
"""
TAKE_AWAY = """
UPDATE sessions SET title = NULL, title_source = NULL WHERE agent_group_id = ? AND title = ? AND status = 'deleted'
"""
SET = "UPDATE sessions SET title = ?, title_source = ? WHERE id = ?"
SOURCE = "SELECT title_source, title_asked FROM sessions WHERE id = ?"
MARK_ASKED = "UPDATE sessions SET title_asked = 1 WHERE id = ? AND title_asked = 0"


class TitleSource(StrEnum):
    """Who made a title."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"
    FIRST_WORDS = "first-words"


def set_manual(tx: Transaction, session: Session, title: str, *, lineage: bool = False) -> str:
    """Give a session the title a person wants; the title it has now.

    A title that another session of the agent group has is a `Conflict`, or with `lineage` becomes the next of its
    lineage. Raises `InvalidValue` for a title of which nothing can be seen.
    """
    wanted = form.clean(title)
    if one(tx, HELD, (session.agent_group_id, wanted, session.id)) is not None:
        if not lineage:
            raise Conflict(
                f"another session has the title '{wanted}'", hint="choose another one, or take the next of its line"
            )
        wanted = _following(tx, session, wanted)
    return _set(tx, session, wanted, TitleSource.MANUAL)


def clear(tx: Transaction, session: Session) -> None:
    """Take the title away, for good: no automatic one comes in its place."""
    _set(tx, session, None, TitleSource.MANUAL)


def set_automatic(tx: Transaction, session: Session, title: str) -> bool:
    """Give a session the title its agent made, once, and never over a person's. Whether it was taken."""
    over = (None, TitleSource.FIRST_WORDS)
    return _replace(tx, session, form.of_model(title), TitleSource.AUTOMATIC, over)


def set_first_words(tx: Transaction, session: Session, text: str) -> bool:
    """Give a session without a title the beginning of a message. Whether it was taken."""
    words = form.first_words(text)
    return words is not None and _replace(tx, session, words, TitleSource.FIRST_WORDS, (None,))


def hand_on(tx: Transaction, parent: Session, child: Session) -> None:
    """Give the session in which a conversation goes on the next title of its lineage."""
    if parent.title is not None:
        source = TitleSource(parent.title_source or TitleSource.MANUAL)
        _set(tx, child, _following(tx, child, parent.title), source)
        mark_asked(tx, child.id)


def source_of(connection: Queryable, session: Session) -> TitleSource | None:
    """Returns who made the title of a session; None when it was never set."""
    row = one(connection, SOURCE, (session.id,))
    return None if row is None or row["title_source"] is None else TitleSource(row["title_source"])


def progress(connection: Queryable, session: Session) -> tuple[TitleSource | None, bool]:
    """The same, and whether the session's agent was asked for a title, or need not be."""
    row = one(connection, SOURCE, (session.id,))
    if row is None:
        return None, False
    return None if row["title_source"] is None else TitleSource(row["title_source"]), bool(row["title_asked"])


def mark_asked(tx: Transaction, session_id: str) -> bool:
    """Note that the session's title has been seen to. False when it was before."""
    return tx.execute(MARK_ASKED, (session_id,)).rowcount > 0


def find(connection: Queryable, name: str, agent_group_id: str | None = None, *, deleted: bool = False) -> list[str]:
    """The sessions a title means, one at most of each agent group (or of the one given); or of those that were deleted.

    `name` is the newest of `name`, `name #2`, …; `name #2` is that one.
    """
    try:
        wanted = form.clean(name)
    except InvalidValue:
        return []
    rows = connection.execute(
        NAMED, _span(wanted) | {"agent_group_id": agent_group_id, "deleted": int(deleted)}
    ).fetchall()
    is_name = form.number_of(wanted) == 1
    newest: dict[str, tuple[int, str]] = {}
    for row in rows:
        number = form.number_in(wanted, row["title"]) if is_name else int(row["title"] == wanted)
        if number:
            group = row["agent_group_id"]
            newest[group] = max(newest.get(group, (0, "")), (number, row["id"]))
    return [session_id for _, session_id in newest.values()]


def _replace(
    tx: Transaction, session: Session, title: str, source: TitleSource, over: tuple[TitleSource | None, ...]
) -> bool:
    """Compare and set: only over a title of these sources."""
    if source_of(tx, session) not in over:
        return False
    wanted = form.clean(title)
    if one(tx, HELD, (session.agent_group_id, wanted, session.id)) is not None:
        wanted = _following(tx, session, wanted)
    _set(tx, session, wanted, source)
    return True


def _set(tx: Transaction, session: Session, title: str | None, source: TitleSource) -> str:
    tx.execute(TAKE_AWAY, (session.agent_group_id, title))
    tx.execute(SET, (title, source, session.id))
    tell(
        tx,
        EventKind.SESSION_TITLE,
        session_id=session.id,
        agent_group_id=session.agent_group_id,
        data={"title": title, "source": source},
    )
    return title or ""


def _following(connection: Queryable, session: Session, title: str) -> str:
    """The next title of a lineage that no other session has."""
    values = _span(form.base_of(title)) | {"agent_group_id": session.agent_group_id, "session_id": session.id}
    return form.following(title, [row["title"] for row in connection.execute(OF_LINEAGE, values)])


def _span(base: str) -> dict[str, str]:
    first, last = form.span(base)
    return {"base": base, "first": first, "last": last}
