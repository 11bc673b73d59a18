"""From the bytes of a mail to what an agent hears, and from its answer to a mail."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from host.channels.email.addresses import message_ids, own_message_id, sole_address
from host.channels.email.authentication import is_from, parse
from host.channels.email.compose import mail as composed
from host.channels.email.mail import Mail, read, said
from host.channels.email.mime import MAX_PARTS, decoded, words
from host.channels.email.quoted import new_html, new_text
from host.channels.email.threads import Thread
from shared_schema.errors import InvalidValue

OWN = "bot@agents.test"
HEAD = b"From: Ann <Ann@People.test>\r\nSubject: Hello\r\nMessage-ID: <1@people.test>\r\n"


def mail(rest: bytes, *, head: bytes = HEAD, is_whole: bool = True) -> Mail:
    return read(head + rest, own=OWN, authserv_id=None, is_whole=is_whole)


def test_a_plain_mail_is_its_text() -> None:
    found = mail("Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGrüße\r\n".encode("latin-1"))

    assert (found.sender, found.sender_name, found.text) == ("ann@people.test", "Ann", "Grüße")
    assert said(found) == "Subject: Hello\n\nGrüße"


def test_html_is_read_where_there_is_no_text() -> None:
    rest = (
        b'Content-Type: multipart/mixed; boundary="x"\r\n\r\npreamble\r\n--x\r\nContent-Type: text/html\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>Hello<br>you=20</p><script>no</script>\r\n"
        b"--x\r\nContent-Type: image/png; name=a.png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw\r\n--x--\r\nend"
    )
    found = mail(rest)

    assert found.text == "Hello\nyou"
    assert [(file.name, file.data) for file in found.files] == [("a.png", b"\x89PNG")]


def test_of_two_forms_of_one_text_the_plain_one_is_taken() -> None:
    rest = (
        b"Content-Type: multipart/alternative; boundary=x\n\n--x\nContent-Type: text/plain\n\nplain\n"
        b"--x\nContent-Type: text/html\n\n<b>html</b>\n--x--\n"
    )
    assert mail(rest).text == "plain"


def test_a_mail_in_a_mail_is_a_file() -> None:
    rest = (
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\nsee\n--x\nContent-Type: message/rfc822\n\n"
        b"Subject: y\n\nz\n--x--"
    )
    found = mail(rest)

    assert found.text == "see"
    assert [(file.name, file.data) for file in found.files] == [("part-2.eml", b"Subject: y\n\nz")]


def test_fifty_nested_parts_and_a_million_empty_ones_are_bounded() -> None:
    nested = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(50))
    many = b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\nfirst\n" + b"--x\n\n.\n" * 1_000_000
    began = time.process_time()
    deep, wide = mail(nested + b"\nhello"), mail(many)

    assert time.process_time() - began < 10
    assert "nested too deep" in said(deep)
    assert wide.text.startswith("first")
    assert wide.text.count(".") <= MAX_PARTS
    assert "some parts of this mail are left out" in said(wide)


@pytest.mark.parametrize("head", [b"X: y\n" * 100_000, b"X: " + b"y" * 300_000, b"From: a@b.c\n " + b" y\n" * 100_000])
def test_headers_without_end_are_refused(head: bytes) -> None:
    with pytest.raises(InvalidValue, match="its headers are longer than"):
        mail(b"", head=head + b"\n\nhello")


@pytest.mark.parametrize(
    "sender",
    [
        b"", b"From: \n", b"From: ann\n", b"From: a@b.c, d@e.f\n", b"From: a@b.c\nFrom: d@e.f\n",
        b"From: <a@b.c\x00>\n", b"From: " + b"(" * 5_000 + b"a@b.c\n", b'From: "a@b.c" d@e.f <g@h.i>\n',
        b"From: a@b.c>, <d@e.f\n",
    ],
)  # fmt: skip
def test_a_mail_without_exactly_one_sender_is_refused(sender: bytes) -> None:
    with pytest.raises(InvalidValue, match="exactly one sender"):
        mail(b"\nhello", head=sender)


@pytest.mark.parametrize(
    ("results", "is_believed"),
    [
        (["mx.test; dmarc=pass header.from=people.test"], True),
        (["mx.test 1; dkim=pass (2048) header.d=people.test; spf=fail"], True),
        (["mx.test; dkim=pass header.i=@people.test"], True),
        (["mx.test; spf=pass smtp.mailfrom=ann@people.test"], True),
        (["MX.TEST; DMARC=PASS header.from=People.Test"], True),
        (["mx.test; dkim=pass header.d=test.example; dkim=pass header.d=people.test"], True),
        (["mx.test; dmarc=fail header.from=people.test"], False),
        (["mx.test; dmarc=pass header.from=evil.test"], False),
        (["mx.test; dkim=pass header.d=evil.test header.d=people.test"], False),
        (["mx.test; dkim=pass header.d=evilpeople.test"], False),
        (["mx.test; dkim=pass header.d=test"], False),
        (["mx.test; spf=pass smtp.mailfrom=ann@evil.test"], False),
        (["mx.test; none"], False),
        (["mx.test"], False),
        ([""], False),
        ([], False),
        (["evil.test; dmarc=pass header.from=people.test"], False),
        (["mx.test.evil.test; dmarc=pass header.from=people.test"], False),
        (['mx.test; dkim=fail reason="x; dmarc=pass header.from=people.test"'], False),
        (["mx.test; dkim=fail (; dmarc=pass header.from=people.test)"], False),
        (["mx.test; dkim=fail ((a) ; dmarc=pass header.from=people.test"], False),
        (["mx.test; dmarc=fail", "mx.test; dmarc=pass header.from=people.test"], False),
        (["other.test; dkim=none", "mx.test; dmarc=pass header.from=people.test"], True),
    ],
)
def test_only_the_configured_server_says_who_a_mail_is_from(results: list[str], is_believed: bool) -> None:
    assert is_from("ann@people.test", results, "mx.test") is is_believed


def test_a_domain_below_the_one_that_signed_is_believed() -> None:
    assert is_from("ann@mail.people.test", ["mx.test; dkim=pass header.d=people.test"], "mx.test")
    assert not is_from("ann@people.test", ["mx.test; dkim=pass header.d=mail.people.test"], "mx.test")


def test_endless_results_are_read_quickly() -> None:
    began = time.process_time()
    for text in ("(" * 100_000, '"' * 99_999, "a=b;" * 100_000, "\\" * 100_000):
        parse(text)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("Yes.\n\nOn Mon, 1 Jan 2026, Bot wrote:\n> Shall I?\n> Really?\n", "Yes."),
        ("Yes.\n\nOn Mon, 1 Jan 2026 at 10:00, A Very Long Name\n<bot@agents.test> wrote:\n\n> Shall I?\n", "Yes."),
        ("Ja.\n\nAm 01.01.26 um 10:00 schrieb Bot:\n> Soll ich?", "Ja.\n\nAm 01.01.26 um 10:00 schrieb Bot:"),
        ("Ja.\n\nBot schrieb:\n> Soll ich?", "Ja."),
        ("Yes.\r\n-----Original Message-----\r\nFrom: Bot\r\n", "Yes."),
        ("Yes.\n\nFrom: Bot <bot@agents.test>\nSent: Monday\nTo: Ann\nSubject: x\n\nShall I?", "Yes."),
        ("> Shall I?\nYes.\n> Really?\nYes.", "> Shall I?\nYes.\n> Really?\nYes."),
        ("> Shall I?", "> Shall I?"),
        ("Yes.\n-- \nAnn\nPeople Ltd.", "Yes."),
        ("From: here on it works.\nThanks", "From: here on it works.\nThanks"),
        ("", ""),
    ],
)
def test_quoted_history_and_signatures_are_cut(text: str, new: str) -> None:
    assert new_text(text) == new


@pytest.mark.parametrize(
    ("html", "new"),
    [
        ('<div>Yes.</div><div class="gmail_quote"><div>On Monday Bot wrote:</div><p>Shall I?</p></div>', "Yes."),
        ('<p>Yes.</p><blockquote type="cite">Shall I?</blockquote>', "Yes."),
        ('<div id="appendonsend"></div><p>All of it</p>', "All of it"),
        ("<div>" * 100_000 + "deep", "deep"),
    ],
)  # fmt: skip
def test_quoted_history_in_html_is_cut(html: str, new: str) -> None:
    assert new_html(html) == new


def test_encoded_words_and_odd_character_sets_are_read() -> None:
    assert words("=?utf-8?q?Gr=C3=BC=C3=9Fe?= x") == "Grüße x"
    assert words("=?nonsense?b?AAAA?=") != ""
    assert decoded(b"\xc3\xbc", "idna") == "ü"
    assert decoded(b"abc", "hex") == "abc"
    assert decoded(b"abc", None) == "abc"


def test_what_a_mail_refers_to_is_kept_within_bounds() -> None:
    ids = message_ids(" ".join(f"<{number}@x.test>" for number in range(1_000)))

    assert (len(ids), ids[0], ids[-1]) == (100, "<0@x.test>", "<999@x.test>")
    assert message_ids("<a b@c> <> <<x@y>") == ["<x@y>"]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('"Ann, of \\"People\\"" <Ann@people.test>', ('Ann, of "People"', "ann@people.test")),
        ("ann@people.test", ("", "ann@people.test")),
        ("<ann@people.test>", ("", "ann@people.test")),
        ("ann@people.test (Ann)", ("Ann", "ann@people.test")),
        ("ann@people.test <ann@people.test>", ("ann@people.test", "ann@people.test")),
        ("bob@people.test <ann@people.test>", None),
        ("bob@people.test, <ann@people.test>", None),
        ("bob@people.test (<ann@people.test>)", None),
        ('"a" <bob@people.test> <ann@people.test>', None),
        ("friends: ann@people.test;", None),
        ("ann@people@people.test", None),
    ],
)
def test_a_sender_is_one_that_every_program_reads_alike(header: str, found: tuple[str, str] | None) -> None:
    assert sole_address(header) == found


def test_a_command_stands_alone() -> None:
    assert said(mail(b"\n/new\n")) == "/new"


def test_an_answer_is_a_mail_that_no_machine_answers(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("one")
    root = f"<{'x' * 200}@people.test>"
    data = composed(
        sender=OWN,
        sender_name="Bot, the\r\nBcc: evil@evil.test",
        recipient="ann@people.test",
        message_id=own_message_id("key", OWN),
        thread=Thread(root, "Hello\r\nBcc: evil@evil.test"),
        reply_to="<2@people.test>",
        text="Grüße, **Ann**.\n\n```\na < b\nc\n```\n" + "x" * 2_000,
        files=[tmp_path / "list.txt"],
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )
    message = message_from_bytes(data, policy=default)

    assert data.isascii()
    assert max(map(len, data.splitlines())) <= 998
    assert message["Bcc"] is None
    assert message["Subject"] == "Re: Hello Bcc: evil@evil.test"
    assert message["References"] == f"{root} <2@people.test>"
    assert message["Auto-Submitted"] == "auto-replied"
    html = message.get_body(("html",)).get_content()  # type: ignore[attr-defined]
    assert "Grüße, <strong>Ann</strong>." in html
    assert "<pre><code>a &lt; b&#10;c</code></pre>" in html
    assert own_message_id("key", OWN) == own_message_id("key", OWN) != own_message_id("other", OWN)
