"""Who is signed in to the page. Of links and cookies only hashes are kept: who reads the database cannot sign in."""

from __future__ import annotations

import hashlib
import secrets

from host.central.database import Queryable, Transaction, one
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT_LINK = "INSERT INTO sign_in_links (token_hash, user_id, created_at, expires_at) VALUES (?, ?, ?, ?)"
TAKE_LINK = "DELETE FROM sign_in_links WHERE token_hash = ? RETURNING user_id, expires_at"
FORGET_LINKS = "DELETE FROM sign_in_links WHERE expires_at <= ?"
INSERT = """
INSERT INTO sign_ins (id, token_hash, user_id, browser, created_at, expires_at, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
BY_TOKEN = "SELECT * FROM sign_ins WHERE token_hash = ? AND expires_at > ?"
ALL = "SELECT * FROM sign_ins WHERE expires_at > ? ORDER BY last_seen DESC, id"
ANY = "SELECT 1 FROM sign_ins WHERE expires_at > ? LIMIT 1"
SEEN = "UPDATE sign_ins SET last_seen = ? WHERE id = ?"
DELETE = "DELETE FROM sign_ins WHERE id = ? RETURNING user_id"
FORGET = "DELETE FROM sign_ins WHERE expires_at <= ?"

_LONGEST_BROWSER = 200


@dataclass(frozen=True, slots=True)
class SignIn(Row):
    """One browser of one user."""

    id: str
    token_hash: str
    user_id: str
    browser: str
    created_at: str
    expires_at: str
    last_seen: str


def new_token() -> str:
    """256 random bits, as they stand in a link or a cookie."""
    return secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """What is kept of a token. It is random and long, so that a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def offer(tx: Transaction, user_id: str, expires_at: str) -> str:
    """A token with which a browser can sign in once."""
    token = new_token()
    tx.execute(FORGET_LINKS, (tx.now,))
    tx.execute(INSERT_LINK, (hash_of(token), user_id, tx.now, expires_at))
    return token


def take(tx: Transaction, token: str) -> str | None:
    """The user of a link, which is used up by that; None for one that is not known, used or too old."""
    row = one(tx, TAKE_LINK, (hash_of(token),))
    return row["user_id"] if row is not None and row["expires_at"] > tx.now else None


def sign_in(tx: Transaction, user_id: str, browser: str, expires_at: str) -> str:
    """Sign a browser in; the token for its cookie."""
    token = new_token()
    tx.execute(FORGET, (tx.now,))
    values = (
        f"sgn_{secrets.token_hex(4)}",
        hash_of(token),
        user_id,
        browser[:_LONGEST_BROWSER],
        tx.now,
        expires_at,
        tx.now,
    )
    tx.execute(INSERT, values)
    return token


def of_token(connection: Queryable, token: str, now: str) -> SignIn | None:
    """The browser with that cookie, while it is signed in."""
    row = one(connection, BY_TOKEN, (hash_of(token), now))
    return None if row is None else SignIn.from_row(row)


def all_of(connection: Queryable, now: str) -> list[SignIn]:
    """Everything that is signed in, the last seen first."""
    return [SignIn.from_row(row) for row in connection.execute(ALL, (now,))]


def has_any(connection: Queryable, now: str) -> bool:
    """Whether any browser is signed in."""
    return one(connection, ANY, (now,)) is not None


def seen(tx: Transaction, sign_in_id: str) -> None:
    """Note that a browser was here."""
    tx.execute(SEEN, (tx.now, sign_in_id))


def end(tx: Transaction, sign_in_id: str) -> str | None:
    """Sign a browser out; its user, None when it was not signed in."""
    row = tx.execute(DELETE, (sign_in_id,)).fetchone()
    return None if row is None else str(row["user_id"])
