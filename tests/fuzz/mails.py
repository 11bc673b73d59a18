"""Mails of anybody's: their bytes, and the headers that decide who is believed and what is new."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from host.channels.email.addresses import LONGEST_ADDRESS, LONGEST_ID, message_ids
from host.channels.email.authentication import is_from
from host.channels.email.mail import MAX_TEXT, read, said
from host.channels.email.mime import MAX_PARTS, words
from host.channels.email.quoted import new_html, new_text
from shared_schema.errors import InvalidValue
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT, REPEATED

_HEAD = (
    b"Authentication-Results: mx.test; dmarc=pass header.from=people.test\r\n"
    b"From: =?utf-8?q?Gr=C3=BC=C3=9Fe?= <ann@people.test>\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"
    b"Message-ID: <1@people.test>\r\nReferences: <0@people.test> <1@people.test>\r\n"
)


def _healthy() -> list[bytes]:
    nested = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(50))
    return [
        _HEAD + b"Content-Type: text/plain; charset=utf-8\r\n\r\nHello\r\n\r\nOn 1 B wrote:\r\n> What?\r\n-- \r\nAnn",
        _HEAD + b"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n\r\nHello\r\n--x\r\n"
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"<p>Hello=20</p><div class=3D\"gmail_quote\">x</div>\r\n--x--\r\n",
        _HEAD + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: application/zip\r\n"
        b"Content-Disposition: attachment; filename*0*=utf-8''a%20; filename*1=b.zip\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nUEsDBAoAAAAA\r\n--x--\r\n",
        _HEAD + nested + b"\r\ndeep",
        _HEAD + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 3_000,
        _HEAD + b"Content-Type: text/html; charset=utf-7\r\n\r\n" + b"<div>" * 3_000,
        _HEAD + b"X: y\r\n" * 3_000 + b"\r\n\r\n",
    ]  # fmt: skip


@contextmanager
def _mail(folder: Path) -> Iterator[Drive]:
    def drive(data: bytes) -> None:
        for authserv_id in ("mx.test", None):
            mail = read(data, own="bot@agents.test", authserv_id=authserv_id)
            assert len(mail.sender) <= LONGEST_ADDRESS
            assert len(mail.text) <= MAX_TEXT
            assert len(mail.files) <= MAX_PARTS
            assert all(len(each) <= LONGEST_ID for each in mail.ids)
            said(mail).encode()

    yield drive


@contextmanager
def _headers(folder: Path) -> Iterator[Drive]:
    def drive(value: tuple[str, str]) -> None:
        text, other = value
        assert not is_from("ann@people.test", [text], "nobody would guess this name")
        message_ids(text)
        words(f"=?utf-8?q?{text}?= {other}")
        new_text(f"{text}\n> {other}\n{text}")
        new_html(f"<p>{text}</p><blockquote type=cite>{other}")

    yield drive


MAILS = (
    of_bytes("mail", _mail, _healthy, (InvalidValue,)),
    Target("mail-headers", _headers, st.tuples(st.one_of(ANY_TEXT, REPEATED), ANY_TEXT), ()),
)
