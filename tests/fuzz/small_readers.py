"""Small readers of channels and callers: headers of mails, names of reactions, places in texts, headers of traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from host.channels.email.addresses import is_address, sole_address
from host.channels.email.authentication import parse as parse_authentication
from host.channels.email.automatic import automatic
from host.channels.email.mime import HeadTooLong, decoded, read_head
from host.channels.github.reactions import read_reaction, summary_of
from host.channels.slack.emoji import to_character, to_name
from host.channels.slack.text import from_mrkdwn, mentions
from host.channels.telegram.text import utf16_slice, utf16_units
from host.traceparent import of_message, of_turn, parse
from host.web.id_token import BadIdToken, verified
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT, JSON_VALUES, REPEATED, nearly_right

_TEXTS = ANY_TEXT | REPEATED
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@contextmanager
def _authentication(folder: Path) -> Iterator[Drive]:
    def drive(header: str) -> None:
        server, results = parse_authentication(header)
        assert server == server.lower()
        assert all(result.method for result in results)

    yield drive


@contextmanager
def _addresses(folder: Path) -> Iterator[Drive]:
    def drive(header: str) -> None:
        found = sole_address(header)
        if found is not None:
            assert is_address(found[1])
            assert found[1] == found[1].lower()

    yield drive


def _heads() -> list[bytes]:
    return [
        b"Auto-Submitted: auto-replied\r\nFrom: a@b.test\r\n\r\nbody",
        b"Return-Path: <>\r\nPrecedence: bulk\r\nList-Id: <x>\r\n folded\r\n\r\n",
        b"Content-Type: multipart/report; boundary==x\n\n",
        b"X: " * 20_000,
    ]


@contextmanager
def _automatic(folder: Path) -> Iterator[Drive]:
    def drive(data: bytes) -> None:
        head, _ = read_head(data)
        automatic(head, "bounce+x@example.org")

    yield drive


@contextmanager
def _charset(folder: Path) -> Iterator[Drive]:
    def drive(value: tuple[bytes, str | None]) -> None:
        assert isinstance(decoded(*value), str)

    yield drive


@contextmanager
def _people_of_slack(folder: Path) -> Iterator[Drive]:
    def drive(text: str) -> None:
        from_mrkdwn(text, "U1")
        mentions(text, "U1")

    yield drive


@contextmanager
def _emoji(folder: Path) -> Iterator[Drive]:
    def drive(name: str) -> None:
        to_character(name)
        found = to_name(name)
        assert found is None or len(found) <= 100

    yield drive


@contextmanager
def _units(folder: Path) -> Iterator[Drive]:
    def drive(value: tuple[str, int, int]) -> None:
        text, offset, length = value
        assert utf16_units(utf16_slice(text, offset, length)) <= utf16_units(text)

    yield drive


@contextmanager
def _reaction(folder: Path) -> Iterator[Drive]:
    def drive(value: Any) -> None:
        found = read_reaction(value)
        assert found is None or len(found.created) <= 40
        summary_of(value)

    yield drive


@contextmanager
def _traceparent(folder: Path) -> Iterator[Drive]:
    def drive(header: str) -> None:
        found = parse(header)
        assert found is None or parse(found.header) == found
        message = of_message("msg_0000000000000001", header)
        assert parse(message.header) == message
        assert of_turn("msg_0000000000000001", header, 1).trace_id == message.trace_id

    yield drive


@contextmanager
def _id_token(folder: Path) -> Iterator[Drive]:
    def drive(value: tuple[str, list[Any]]) -> None:
        token, keys = value
        now = datetime(2026, 3, 1, tzinfo=UTC)
        verified(token, keys, issuer="https://x", client_id="dw", nonce="n", now=now)
        raise AssertionError("a token without a key was believed")

    yield drive


_HEADERS = st.text(st.sampled_from('abz@.,;:<>()"\\ =?-_/') | st.characters(exclude_categories=["Cs"]), max_size=80)
_KEYS = st.lists(
    nearly_right(JSON_VALUES, kty=("RSA", "EC", "OKP", "oct"), kid=("one",), n=("AQAB",), e=("AQAB",), crv=("P-256",)),
    max_size=3,
)
_TOKENS = st.sampled_from(
    (
        "eyJhbGciOiJSUzI1NiIsImtpZCI6Im9uZSJ9.e30.AAAA",
        "eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
        "eyJhbGciOiJub25lIn0.e30.",
        "eyJhbGciOltdfQ.e30.AAAA",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6W119.W10.AAAA",
    )
)

SMALL_READERS = (
    Target("mail-authentication", _authentication, _HEADERS | _TEXTS, ()),
    Target("mail-address", _addresses, _HEADERS | _TEXTS, (), known=('"' * 2_000, "\\" * 2_000, '"\\' * 1_000)),
    of_bytes("mail-automatic", _automatic, _heads, (HeadTooLong,)),
    Target(
        "mail-charset",
        _charset,
        st.tuples(st.binary(max_size=200), st.none() | ANY_TEXT | st.sampled_from(("utf-7", "hex", "zlib", "idna"))),
        (),
    ),
    Target(
        "slack-people", _people_of_slack, _TEXTS | st.sampled_from(("<@U1" * 5_000, "<" * 20_000, "<@U1|" * 99)), ()
    ),
    Target("slack-emoji", _emoji, _TEXTS | st.sampled_from((":x::skin-tone-2:", ":" * 20_000)), ()),
    Target("telegram-units", _units, st.tuples(_TEXTS, st.integers(-9, 2**40), st.integers(-9, 2**40)), ()),
    Target(
        "github-reaction",
        _reaction,
        nearly_right(
            JSON_VALUES,
            id=st.integers(-1, 2**70),
            content=("+1", "heart", "x"),
            created_at=("2026-01-01T00:00:00Z", "x" * 100),
            user=nearly_right(JSON_VALUES, login=("ann", "ci[bot]"), type=("User", "Bot")),
            reactions=nearly_right(JSON_VALUES, heart=st.integers(-1, 9)),
        ),
        (),
    ),
    Target(
        "traceparent",
        _traceparent,
        _TEXTS | st.text("0123456789abcdef-", max_size=60) | st.builds("{}{}".format, st.just(_TRACE), _TEXTS),
        (),
    ),
    Target("id-token", _id_token, st.tuples(_TOKENS | _TEXTS, _KEYS), (BadIdToken,)),
)
