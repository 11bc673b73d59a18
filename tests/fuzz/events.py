"""What a platform hands over: patterns and texts, the identifiers that make a route, events with their files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import category

from hypothesis import strategies as st

from host.central.messaging_groups import Engage, SessionMode
from host.routing.engage import engages, valid_pattern
from host.routing.event import Event
from host.routing.route_key import route_key
from host.sessions.attachments import Attachment
from host.sessions.filename import MAX_BYTES, safe_name
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.rows import Address, decode
from tests.fuzz import ledger
from tests.fuzz.ledger import MAX_TEXT
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, PLAIN_TEXT

_ATOMS = st.sampled_from(("a", ".", "\\pL", "\\PL", "[^x]", "\\b", "é", "(?i)", "^", "$", "x", "[[:alpha:]]", "\\C"))
PATTERNS = st.one_of(
    ANY_TEXT,
    st.recursive(
        _ATOMS,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=4).map("".join),
            st.lists(inner, min_size=1, max_size=4).map(lambda parts: f"({'|'.join(parts)})"),
            st.tuples(inner, st.sampled_from(("*", "+", "?", "{0,30}", "{300}", "{1000}", "*?", "{2,}"))).map(
                lambda pair: f"({pair[0]}){pair[1]}"
            ),
        ),
        max_leaves=12,
    ),
)
TEXTS = st.one_of(
    ANY_TEXT,
    st.builds(
        str.__mul__,
        st.sampled_from(("a", "é", "ab", "x ", "\U0001f422", "\0")),
        st.sampled_from((10, 1000, 32_000, 100_000)),
    ),
)

# The programs of these are so large that RE2's fast matcher gives up.
KNOWN_PATTERNS = (
    ("(a?){1000}b", "a" * 32_000),
    ("(\\pL?){300}!", "é" * 32_000),
    ("|".join(["(a?){150}"] * 60) + "b", "a" * 32_000),
    ("", "\ud800"),
)

IDENTIFIERS = st.one_of(*[st.sampled_from(("one", "two", "ann"))] * 4, st.just("x" * 501), ANY_TEXT)
EVENTS = st.fixed_dictionaries(
    {
        "channel_type": st.one_of(*[st.just("memory")] * 4, st.just("cli"), PLAIN_TEXT),  # the channel's own word
        "platform_id": IDENTIFIERS,
        "thread_id": st.none() | IDENTIFIERS,
        "platform_message_id": st.one_of(st.sampled_from(("first", "second")), ANY_TEXT),
        "text": st.one_of(ANY_TEXT, st.just("hello"), st.just("x" * (MAX_TEXT + 1))),
        "sender_id": st.none() | IDENTIFIERS,
        "sender_name": st.none() | ANY_TEXT,
        "is_mention": st.booleans(),
        # Only the terminal has these two, and their text has been checked to be one.
        "agent_group": st.one_of(*[st.none()] * 4, st.sampled_from(("assistant", "other")), PLAIN_TEXT),
        "session_id": st.one_of(*[st.none()] * 4, PLAIN_TEXT),
        "files": st.lists(ANY_TEXT, max_size=2),
    }
)

_HALF = {
    "channel_type": "memory", "platform_id": "one", "thread_id": None, "platform_message_id": "second",
    "text": "\ud800", "sender_id": "ann", "sender_name": "\ud800", "is_mention": False, "files": ["\ud800"],
}  # fmt: skip


@contextmanager
def _engage(folder: Path) -> Iterator[Drive]:
    def drive(value: tuple[str, str]) -> None:
        pattern, text = value
        engages(Engage.PATTERN, pattern, text=text, is_mention=False, is_group=True)
        valid_pattern(pattern)

    yield drive


@contextmanager
def _route_key(folder: Path) -> Iterator[Drive]:
    def drive(value: tuple[str, str, str, str | None, bool, str | None]) -> None:
        mode, channel_type, platform_id, thread_id, per_user, sender_id = value
        key = route_key(
            mode,
            Address(channel_type, platform_id, thread_id),
            agent_group_id="agr_0123456789abcdef",
            per_user=per_user,
            sender_id=sender_id,
        )
        assert key.isascii()
        assert key.isprintable()
        assert key.startswith(f"{mode}/")

    yield drive


@contextmanager
def _event(folder: Path) -> Iterator[Drive]:
    """Through the router, as a channel does it: kept in the ledger and in the spool, or refused."""
    source = folder / "source"
    source.write_bytes(b"data")
    with ledger.opened(folder / "data") as there:

        def drive(fields: dict[str, Any]) -> None:
            others = dict(fields)
            address = Address(*(others.pop(name) for name in ("channel_type", "platform_id", "thread_id")))
            files = tuple(Attachment(name, source) for name in others.pop("files"))
            try:
                receipt = there.run(there.services.router.ingest(Event(address=address, attachments=files, **others)))
                assert receipt.accepted or receipt.dropped
                there.run(there.central.read(_require_writable))
            finally:
                there.run(there.put_back())
                _clear(there.layout.spool)

        yield drive


def _require_writable(connection: Any) -> None:
    """What was accepted has the form that is promised to agents."""
    for row in connection.execute("SELECT content, spool FROM ingest"):
        body = decode(row["content"])
        assert isinstance(body["text"], str)
        assert len(body["text"]) < MAX_TEXT + 100
        for file in body.get("files", []):
            assert "/" not in file["name"]
            assert not any(category(character).startswith("C") for character in file["name"])


def _clear(spool: Path) -> None:
    for folder in spool.iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@contextmanager
def _safe_name(folder: Path) -> Iterator[Drive]:
    def drive(names: list[str]) -> None:
        taken: set[str] = set()
        for name in names:
            safe = safe_name(name, taken)
            assert 0 < len(safe.encode()) <= MAX_BYTES
            assert "/" not in safe
            assert "\\" not in safe
            assert not any(category(character).startswith("C") for character in safe)
            assert not safe.startswith(".")
            assert safe.casefold() not in {other.casefold() for other in taken}
            taken.add(safe)

    yield drive


EVENT_TARGETS = (
    Target("engage", _engage, st.tuples(PATTERNS, TEXTS), (InvalidValue,), known=KNOWN_PATTERNS),
    Target(
        "route-key",
        _route_key,
        st.tuples(
            st.one_of(st.sampled_from(SessionMode), ANY_TEXT),
            IDENTIFIERS,
            IDENTIFIERS,
            st.none() | IDENTIFIERS,
            st.booleans(),
            st.none() | IDENTIFIERS,
        ),
        (InvalidValue,),
        known=((SessionMode.SHARED, "memory", "\ud800", None, False, None),),
    ),
    Target("event", _event, EVENTS, (DumbwaiterError,), known=(_HALF,)),
    Target("attachment-names", _safe_name, st.lists(st.one_of(ANY_TEXT, PLAIN_TEXT), max_size=4), ()),
)
