"""The channel `email` over a real Dovecot and a real SMTP server, in a real host with real agents."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from host.channels.build import settings_of
from host.channels.email import TYPE as EMAIL
from host.channels.protocol import ChannelRefused, ChannelUnavailable, DeliveryRefused, Ingest, Outgoing
from host.routing.event import Incoming, Receipt
from shared_schema.errors import FileTrouble
from shared_schema.rows import Address
from tests.channels.open_host import ChannelHost, DyingHost, channel_host
from tests.platforms.mail_server import (
    AUTHSERV_ID,
    PASSWORD,
    Dovecot,
    MailServer,
    mail_server,
)
from tests.support.wait import until

ANN = "ann@people.test"


@pytest.fixture
async def server(imap: Dovecot) -> AsyncIterator[MailServer]:
    async with mail_server(imap) as server:
        yield server


@pytest.fixture
async def there(server: MailServer, tmp_path: Path) -> AsyncIterator[ChannelHost]:
    async with channel_host(tmp_path / "data", EMAIL, server.settings(), chats=[ANN]) as there:
        yield there


async def test_a_mail_is_answered_in_its_thread(there: ChannelHost, server: MailServer) -> None:
    first = server.write("reply 1 Paris", Subject="The capital of France")
    answer = await server.said("Paris 1")
    server.write(
        "reply 1 Lyon\n\nOn Monday, Bot wrote:\n> Paris 1\n",
        Subject="Re: The capital of France",
        In_Reply_To=str(answer.message["Message-ID"]),
        References=f"{first} {answer.message['Message-ID']}",
    )
    again = await server.said("Lyon 1")

    assert answer.recipients == [ANN, server.address]
    assert answer.message["Subject"] == "Re: The capital of France"
    assert (answer.message["In-Reply-To"], answer.message["References"]) == (first, first)
    assert answer.message["Auto-Submitted"] == "auto-replied"
    assert str(again.message["References"]).split()[0] == first
    one, two = there.events()
    assert one.text == "Subject: The capital of France\n\nreply 1 Paris"
    assert (two.text, two.reply_to) == ("reply 1 Lyon", answer.message["Message-ID"])
    assert {event.address for event in (one, two)} == {Address("email", ANN, first)}


async def test_a_reply_that_names_only_our_mail_stays_in_the_thread(there: ChannelHost, server: MailServer) -> None:
    first = server.write("reply 1 one")
    (answer,) = await server.got(1)
    server.write("reply 1 two", In_Reply_To=str(answer.message["Message-ID"]))
    await there.heard(2)

    assert [event.address.thread_id for event in there.events()] == [first, first]


async def test_formatting_and_files_go_both_ways(there: ChannelHost, server: MailServer) -> None:
    server.write("/whatever", Subject="x", files={"../list.txt": b"one", "ä.bin": b"\0\1"})
    server.write("attach reply.bin 20\nreply 1 **bold** <b>")
    (event, _) = await there.heard(2)
    await server.said("**bold** <b> 1")
    sent = server.to_people()

    assert sorted(attachment.name for attachment in event.attachments) == ["list.txt", "ä.bin"]
    files = [part for mail in sent for part in mail.message.iter_attachments()]
    assert [(part.get_filename(), len(part.get_content())) for part in files] == [("reply.bin", 20)]
    html = [mail.message.get_body(("html",)).get_content() for mail in sent]  # type: ignore[union-attr]
    assert any("<strong>bold</strong> &lt;b&gt;" in each for each in html)


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto_Submitted": "auto-replied"},
        {"Precedence": "bulk"},
        {"List_Id": "<all.people.test>"},
        {"Return_Path": "<>"},
        {"X_Auto_Response_Suppress": "All"},
        {"sender": "Mail Delivery System <MAILER-DAEMON@people.test>"},
        {"is_genuine": False},
        {"sender": "ann@people.test, bob@people.test"},
        {"sender": "Bot <ADDRESS>"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_what_no_person_has_written_is_never_answered(
    there: ChannelHost, server: MailServer, headers: dict[str, Any]
) -> None:
    given = {
        name: value.replace("ADDRESS", server.address) if name == "sender" else value for name, value in headers.items()
    }
    server.write("reply 1 never", **given)
    server.write("reply 1 always")
    await server.got(1)

    assert [mail.text for mail in server.to_people()] == ["always 1"]
    assert len(there.events()) == 1


async def test_a_sender_who_brings_the_servers_word_along_is_not_believed(
    there: ChannelHost, server: MailServer
) -> None:
    server.write(
        "reply 1 forged", is_genuine=False, Authentication_Results=f"{AUTHSERV_ID}; dmarc=pass header.from=people.test"
    )
    server.write("reply 1 genuine")
    await server.got(1)

    assert [event.sender_id for event in there.events()] == [ANN]
    assert there.events()[0].text.endswith("genuine")


async def test_a_host_that_dies_before_the_position_moves_knows_the_mail_when_it_comes_again(
    server: MailServer, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with DyingHost(data, "email", server.settings(), ANN) as dying:
        server.write("reply 1 once")
        await dying.dead()
    async with channel_host(data, EMAIL, server.settings()) as there:
        server.write("reply 1 then")
        await server.got(2)
        await there.heard(2)
        await there.host.settled()

    assert sorted(mail.text for mail in server.to_people()) == ["once 1", "then 1"]


async def test_what_came_while_the_server_was_away_is_taken_in_order_when_it_is_back(
    there: ChannelHost, server: MailServer, imap: Dovecot
) -> None:
    server.write("reply 1 before")
    await server.got(1)
    await asyncio.to_thread(imap.stop)
    try:
        error = await there.served()
        for number in range(3):
            server.write(f"reply 1 mail-{number}")
    finally:
        await asyncio.to_thread(imap.start)
    assert isinstance(error, ChannelUnavailable)
    await there.close()
    await there.start()
    await server.got(4)

    heard = [event.text.rpartition(" ")[2] for event in there.events()]
    assert heard == ["before", "mail-0", "mail-1", "mail-2"]


async def test_a_mailbox_that_was_numbered_anew_brings_nothing_twice(
    server: MailServer, tmp_path: Path, imap: Dovecot
) -> None:
    data = tmp_path / "data"
    async with channel_host(data, EMAIL, server.settings(), chats=[ANN]) as there:
        server.write("reply 1 once")
        await server.got(1)
        await until(lambda: _is_marked(there), "the mail is acknowledged")
    for index in [*server.maildir.glob("dovecot*")]:
        index.unlink()  # with them goes the numbering, and its UIDVALIDITY
    async with channel_host(data, EMAIL, server.settings()) as there:
        server.write("reply 1 then")
        await server.got(2)
        await there.host.settled()

    assert sorted(mail.text for mail in server.to_people()) == ["once 1", "then 1"]


async def test_a_mailbox_full_of_old_mail_is_not_answered(server: MailServer, tmp_path: Path) -> None:
    server.write("reply 1 of last year")
    async with channel_host(tmp_path / "data", EMAIL, server.settings(), chats=[ANN]):
        server.write("reply 1 of today")
        await server.got(1)

    assert [mail.text for mail in server.to_people()] == ["of today 1"]


async def test_a_mail_that_cannot_be_kept_is_not_acknowledged(server: MailServer, tmp_path: Path) -> None:
    full = [True]

    def disk(ingest: Ingest) -> Ingest:
        async def through(event: Incoming) -> Receipt:
            if full[0]:
                raise FileTrouble("the disk is full")
            return await ingest(event)

        return through

    settings = server.settings()
    async with channel_host(tmp_path / "data", EMAIL, settings, chats=[ANN], around=disk) as there:
        server.write("reply 1 kept")
        error = await there.served()
        full[0] = False
        await there.close()
        await there.start()
        await server.got(1)

    assert isinstance(error, ChannelUnavailable)
    assert [mail.text for mail in server.to_people()] == ["kept 1"]


async def test_a_mail_that_the_server_took_before_the_connection_broke_is_not_sent_again(
    there: ChannelHost, server: MailServer
) -> None:
    server.drops_after = 1
    server.write("reply 1 once")
    await there.answered(1)

    assert [mail.text for mail in server.to_people()] == ["once 1"]


async def test_a_server_that_says_later_gets_it_later_and_one_that_says_never_is_not_asked_again(
    there: ChannelHost, server: MailServer
) -> None:
    server.answers = ["451 4.3.0 later"]
    server.write("reply 1 later")
    await server.got(1)
    server.refuses.add("gone@people.test")
    with pytest.raises(DeliveryRefused, match=r"550 5\.1\.1 there is no such mailbox"):
        await there.channel.deliver(Outgoing("key", Address("email", "gone@people.test"), "chat", "hello"))
    with pytest.raises(DeliveryRefused, match="no mail address"):
        await there.channel.deliver(Outgoing("key", Address("email", "gone"), "chat", "hello"))

    assert [mail.text for mail in server.to_people()] == ["later 1"]


async def test_what_begins_a_conversation_has_a_subject_and_replies_to_it_are_in_its_thread(
    there: ChannelHost, server: MailServer
) -> None:
    message_id = await there.channel.deliver(
        Outgoing("key", Address("email", ANN), "chat", "# The disk is full\n\nOn db-1.")
    )
    (mail,) = await server.got(1)
    server.write("reply 1 yes", In_Reply_To=str(message_id))
    (event,) = await there.heard(1)

    assert mail.message["Subject"] == "The disk is full"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert (event.address.thread_id, event.reply_to) == (message_id, message_id)


async def test_a_mail_that_is_too_large_is_taken_without_its_end(server: MailServer, tmp_path: Path) -> None:
    settings = server.settings(max_bytes=20_000)
    async with channel_host(tmp_path / "data", EMAIL, settings, chats=[ANN]) as there:
        server.write("reply 1 large", files={"a.bin": b"x" * 100_000})
        (event,) = await there.heard(1)

    assert event.text.startswith("reply 1 large")
    assert "[this mail was too large: its end, and what was attached there, is left out]" in event.text


async def test_a_mail_that_is_built_to_break_its_reader_delays_nothing(
    there: ChannelHost, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    """50 parts in each other, a thousand beside each other, headers without end; between them what people write."""
    head = f"Authentication-Results: {AUTHSERV_ID};\r\n dmarc=pass header.from=people.test\r\n".encode()
    head += f"From: Ann <{ANN}>\r\nTo: {server.address}\r\nMIME-Version: 1.0\r\n".encode()

    def put(name: str, rest: bytes) -> None:
        server.put(head + f"Message-ID: <{name}@people.test>\r\n".encode() + rest)

    opened = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(50))
    put("nested", opened + b"Content-Type: text/plain\r\n\r\nreply 1 deep\r\n")
    server.write("reply 1 one")
    part = b"--b\r\nContent-Type: text/plain; name=x\r\nContent-Disposition: attachment; filename=x\r\n\r\nx\r\n"
    put("wide", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + 1000 * part + b"--b--\r\n")
    server.write("reply 1 two")
    put("headers", b"X-Long: " + 40_000 * b"much more\r\n " + b"\r\n\r\nreply 1 never\r\n")
    put("many", b"".join(b"X-%d: 1\r\n" % n for n in range(20_000)) + b"\r\nreply 1 many\r\n")
    server.write("reply 1 three")

    await server.said("three 1")
    texts = [sent.text for sent in server.to_people()]
    assert [text for text in texts if text in ("one 1", "two 1", "three 1")] == ["one 1", "two 1", "three 1"]
    assert not any("never" in text for text in texts)
    assert there.channel.refused >= 1
    assert "a mail was refused" in caplog.text


async def test_files_that_the_host_may_not_take_are_named(server: MailServer, tmp_path: Path) -> None:
    async with channel_host(
        tmp_path / "data", EMAIL, server.settings(), chats=[ANN], max_files=2, max_file_bytes=1_000
    ) as there:
        server.write("hello", files={"a": b"1", "b": b"x" * 2_000, "c": b"3", "d": b"4"})
        (event,) = await there.heard(1)

    assert [attachment.name for attachment in event.attachments] == ["a", "c"]
    assert "[the file b is left out: it has 2000 bytes, 1000 are allowed]" in event.text
    assert "[the file d is left out: a message may have 2 files]" in event.text


async def test_a_password_that_is_not_right_is_said_by_its_name_and_no_secret_is_told(
    server: MailServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = 'canary-wrong "quoted" password'
    data = tmp_path / "data"
    async with channel_host(data, EMAIL, server.settings(), chats=[ANN]) as there:
        await there.channel.check()
        server.write("reply 1 pong")
        await server.got(1)
        await there.host.settled()
        settings = server.settings(password=wrong, smtp_port=server.smtp_port)
        other = EMAIL.make(settings_of(EMAIL, "email", settings), there.context)
        with pytest.raises(ChannelRefused) as caught:
            await other.check()
        with pytest.raises(ChannelRefused) as sending:
            await other.deliver(Outgoing("key", Address("email", ANN), "chat", "hello"))

    said = caplog.text + str(caught.value) + str(sending.value) + repr(other._settings)
    assert str(caught.value).startswith(f"127.0.0.1 does not let {server.address} in: take the password of")
    assert PASSWORD not in said
    assert wrong not in said
    assert "canary" not in said


async def test_check_says_who_we_are_and_what_is_missing(server: MailServer, tmp_path: Path) -> None:
    settings = server.settings(authserv_id=None)
    async with channel_host(tmp_path / "data", EMAIL, settings, is_started=False) as there:
        identity = await there.channel.check()
        with pytest.raises(ChannelRefused, match="`dumbwaiter channel check email`"):
            await there.channel.start(there.host.services.router.ingest)

    assert identity.id == server.address
    assert "set `authserv_id` under [channels.email]" in identity.missing[0]


async def test_our_own_copies_are_put_away(there: ChannelHost, server: MailServer) -> None:
    server.write("reply 1 pong")
    await server.got(1)

    await until(lambda: len([*server.maildir.glob(".Sent/[cn]*/*.test*")]) == 1, "the copy is in Sent")


async def _is_marked(there: ChannelHost) -> bool:
    text = await there.context.state.get("position")
    return text is not None and json.loads(text)["uid"] >= 1
