"""Tokens of programs: what each may do, with which agent group, for how much, until when.

A token is shown once; its hash is kept, as of a sign-in. Its name is who acts in the audit log, and the name of its
chat: what it says are conversations of the chat `api:<name>`, and what these use is what it has spent. A token that is
made anew under the name of one that was revoked goes on with its conversations.
"""

from __future__ import annotations

import secrets
from enum import StrEnum

from host.central.database import Queryable, Transaction, one
from host.central.sign_ins import hash_of
from shared_schema.dataclass import dataclass
from shared_schema.rows import Row

INSERT = """
INSERT INTO tokens (id, name, token_hash, rights, agent_group_id, budget_usd, budget_tokens, budget_period, created_at,
    expires_at)
VALUES (:id, :name, :token_hash, :rights, :agent_group_id, :budget_usd, :budget_tokens, :budget_period, :created_at,
    :expires_at)
"""
_COLUMNS = """
SELECT t.id, t.name, t.rights, t.agent_group_id, a.name AS agent_group, t.budget_usd, t.budget_tokens,
    t.budget_period, t.created_at, t.expires_at, t.last_used
FROM tokens t LEFT JOIN agent_groups a ON a.id = t.agent_group_id
"""
BY_TOKEN = f"{_COLUMNS} WHERE t.token_hash = ? AND (t.expires_at IS NULL OR t.expires_at > ?)"
BY_NAME = f"{_COLUMNS} WHERE t.name = ?"
ALL = f"{_COLUMNS} ORDER BY t.name LIMIT 1000"
ANY = "SELECT 1 FROM tokens WHERE expires_at IS NULL OR expires_at > ? LIMIT 1"
USED = "UPDATE tokens SET last_used = ? WHERE id = ?"
DELETE = "DELETE FROM tokens WHERE name = ?"
SPENT = """
SELECT total(u.cost_usd) AS usd, CAST(total(
    u.input_tokens + u.output_tokens + u.cache_read_tokens + u.cache_write_tokens) AS INTEGER) AS tokens
FROM messaging_groups m JOIN sessions s ON s.messaging_group_id = m.id JOIN usage u ON u.session_id = s.id
WHERE m.channel_type = 'api' AND m.platform_id = ? AND u.finished_at >= ?
"""

EDITOR = "editor"
"""The name under which editors talk (`dumbwaiter acp`), which no token has."""
PREFIX = "dw_"
"""Every token begins with it, so that those who look for leaked secrets know one."""


class Rights(StrEnum):
    """What a token may do. READ sees and changes nothing; TALK talks, and sees what it said; ADMIN does everything."""

    READ = "read"
    TALK = "talk"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token(Row):
    """One token. Without an agent group it is for all of them, without a budget it may spend what they may."""

    id: str
    name: str
    rights: str
    agent_group_id: str | None
    agent_group: str | None
    budget_usd: float | None
    budget_tokens: int | None
    budget_period: str
    created_at: str
    expires_at: str | None
    last_used: str | None

    @property
    def may_talk(self) -> bool:
        """Whether it may talk to agents."""
        return self.rights != Rights.READ

    def reaches(self, agent_group_id: str | None) -> bool:
        """Whether an agent group is one that it may see."""
        return self.agent_group_id is None or self.agent_group_id == agent_group_id


@dataclass(frozen=True, slots=True)
class Spent:
    """What a token has used in the present period; `refusal` says so when its budget is used up."""

    usd: float
    tokens: int
    refusal: str | None


def add(
    tx: Transaction,
    *,
    name: str,
    rights: Rights,
    agent_group_id: str | None,
    budget_usd: float | None,
    budget_tokens: int | None,
    budget_period: str,
    expires_at: str | None,
) -> str:
    """Keep a new token; the token itself, which is told nowhere else."""
    token = f"{PREFIX}{secrets.token_urlsafe(32)}"
    values = {
        "id": f"tok_{secrets.token_hex(4)}",
        "name": name,
        "token_hash": hash_of(token),
        "rights": rights,
        "agent_group_id": agent_group_id,
        "budget_usd": budget_usd,
        "budget_tokens": budget_tokens,
        "budget_period": budget_period,
        "created_at": tx.now,
        "expires_at": expires_at,
    }
    tx.execute(INSERT, values)
    return token


def of_token(connection: Queryable, token: str, now: str) -> Token | None:
    """The token that a program has shown, while it holds."""
    row = one(connection, BY_TOKEN, (hash_of(token), now))
    return None if row is None else Token.from_row(row)


def find(connection: Queryable, name: str) -> Token | None:
    """The token of that name, also one that has expired."""
    row = one(connection, BY_NAME, (name,))
    return None if row is None else Token.from_row(row)


def all_of(connection: Queryable) -> list[Token]:
    """All tokens, by name."""
    return [Token.from_row(row) for row in connection.execute(ALL)]


def has_any(connection: Queryable, now: str) -> bool:
    """Whether there is a token that holds."""
    return one(connection, ANY, (now,)) is not None


def used(tx: Transaction, token_id: str) -> None:
    """Note that a program was here."""
    tx.execute(USED, (tx.now, token_id))


def remove(tx: Transaction, name: str) -> bool:
    """Revoke a token; whether there was one."""
    return tx.execute(DELETE, (name,)).rowcount > 0


def spent(connection: Queryable, token: Token, now: str) -> Spent:
    """What a token has used in the present period (UTC), by what the turns of its conversations used."""
    since = {"day": now[:10], "month": now[:7]}.get(token.budget_period, "0")
    row = one(connection, SPENT, (token.name, since))
    assert row is not None
    usd, tokens = float(row["usd"]), int(row["tokens"])
    refusal = None
    if token.budget_usd is not None and usd >= token.budget_usd:
        refusal = f"{usd:.2f} of {token.budget_usd:g} US dollars"
    elif token.budget_tokens is not None and tokens >= token.budget_tokens:
        refusal = f"{tokens} of {token.budget_tokens} tokens"
    spell = {"day": " for today", "month": " for this month"}.get(token.budget_period, "")
    sentence = None if refusal is None else f"the budget of the token '{token.name}'{spell} is used up: {refusal}"
    return Spent(usd, tokens, sentence)
