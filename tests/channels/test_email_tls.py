"""Mail over TLS and STARTTLS: a real Dovecot and a real aiosmtpd with a self-made certificate, trusted and not."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from host.channels.build import settings_of
from host.channels.email import TYPE as EMAIL
from host.channels.email import smtp
from host.channels.email.imap import Mailbox
from host.channels.email.settings import EmailSettings
from host.channels.protocol import ChannelRefused, ChannelUnavailable
from tests.conftest import cannot_run
from tests.platforms.mail_server import PASSWORD, Dovecot, MailServer, dovecot, missing_dovecot
from tests.support.wait import until


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        cannot_run("openssl is not installed")
    path = tmp_path / "certificate.pem"
    key = str(tmp_path / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", str(path)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def encrypting(certificate: Path) -> Iterator[Dovecot]:
    """A Dovecot that takes no password before STARTTLS."""
    if (why := missing_dovecot()) is not None:
        cannot_run(why)
    with dovecot(certificate) as server:
        yield server


@asynccontextmanager
async def tls_before(dovecot: Dovecot, certificate: Path) -> AsyncIterator[int]:
    """A port that speaks TLS and passes on to the server; its number."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    writers: list[asyncio.StreamWriter] = []

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        target.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", dovecot.port)
        writers.extend((writer, there_writer))
        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

    server = await asyncio.start_server(through, "127.0.0.1", ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def settings(port: int, **more: Any) -> EmailSettings:
    given = {"address": "tls@agents.test", "password": PASSWORD, "imap_host": "localhost", "imap_port": port,
             "smtp_host": "localhost", "authserv_id": "mx", **more}  # fmt: skip
    checked = settings_of(EMAIL, "email", given)
    assert isinstance(checked, EmailSettings)
    return checked


async def test_a_mailbox_is_read_over_tls_with_a_certificate_that_is_trusted(
    imap: Dovecot, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with tls_before(imap, certificate) as port:
        box = await Mailbox.open(settings(port))
        try:
            assert await box.search("ALL") == []
        finally:
            await box.close()


async def test_a_certificate_that_is_not_trusted_is_said_with_what_to_do(imap: Dovecot, certificate: Path) -> None:
    async with tls_before(imap, certificate) as port:
        with pytest.raises(ChannelUnavailable, match="the certificate that localhost shows is not good") as caught:
            await Mailbox.open(settings(port))
    assert caught.value.hint is not None
    assert "SSL_CERT_FILE" in caught.value.hint


async def test_a_mailbox_is_read_over_a_connection_that_is_encrypted_by_starttls(
    encrypting: Dovecot, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starttls = settings(encrypting.port, imap_security="starttls")
    with pytest.raises(ChannelUnavailable, match="the certificate that localhost shows is not good"):
        await Mailbox.open(starttls)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    box = await Mailbox.open(starttls)
    try:
        assert await box.search("ALL") == []
        await box.wait_for_mail(0.1)  # IDLE is among what the server says it can, behind the encryption
        assert box.is_encrypted
    finally:
        await box.close()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"NO there is no encryption", "localhost does not encrypt a connection with STARTTLS"),
        (b"OK begin\r\n* CAPABILITY and the beginning of a line", "goes on in the clear behind STARTTLS"),
    ],
    ids=["it does not", "somebody writes into the connection"],
)
async def test_where_a_connection_is_not_encrypted_no_password_is_said(answer: bytes, match: str) -> None:
    said: list[bytes] = []
    hung_up = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK hello\r\n")
        while line := await reader.readline():
            tag, _, command = line.rstrip().partition(b" ")
            said.append(command)
            if command == b"CAPABILITY":
                writer.write(b"* CAPABILITY IMAP4rev1 STARTTLS\r\n" + tag + b" OK done\r\n")
            else:
                writer.write(tag + b" " + (answer if command == b"STARTTLS" else b"OK done\r\n"))
                if not answer.startswith(b"OK"):
                    writer.write(b"\r\n")
        writer.close()
        hung_up.set()

    server = await asyncio.start_server(talk, "localhost")
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((ChannelRefused, ChannelUnavailable), match=match):
            await Mailbox.open(settings(port, imap_security="starttls"))
        await until(hung_up.is_set, "the connection is closed")
    assert said[:2] == [b"CAPABILITY", b"STARTTLS"]
    assert not any(PASSWORD.encode() in line for line in said)


async def test_mail_is_sent_over_a_connection_that_is_encrypted_by_starttls(
    imap: Dovecot, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real aiosmtpd, which takes no password and no mail before the connection is encrypted."""
    mailbox = MailServer.new(imap)
    mailbox.certificate = certificate
    await mailbox.start()
    try:
        starttls = settings(imap.port, smtp_port=mailbox.smtp_port, smtp_security="starttls")
        with pytest.raises(ChannelUnavailable, match="the certificate that localhost shows is not good"):
            await smtp.check(starttls)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await smtp.check(starttls)
        mail = b"From: tls@agents.test\r\nTo: ann@people.test\r\nSubject: hi\r\n\r\nhello\r\n"
        await smtp.send(starttls, "ann@people.test", mail)
        assert [(sent.recipients, sent.text) for sent in mailbox.sent] == [
            (["ann@people.test", "tls@agents.test"], "hello")
        ]
        with pytest.raises((ChannelRefused, ChannelUnavailable)):
            await smtp.check(settings(imap.port, smtp_port=mailbox.smtp_port, smtp_security="none"))
    finally:
        await mailbox.stop()


async def test_a_port_where_no_server_listens_is_said_at_once(unused_tcp_port: int) -> None:
    with pytest.raises(ChannelUnavailable, match=r"localhost:\d+ \(IMAP\) cannot be reached: nothing takes"):
        await Mailbox.open(settings(unused_tcp_port))


@pytest.mark.parametrize("what", ["imap", "smtp"])
def test_a_password_is_not_sent_in_the_clear_over_a_network(what: str) -> None:
    given = settings(993).model_dump() | {f"{what}_host": "mail.example.org", f"{what}_security": "none"}
    with pytest.raises(ValueError, match=f"{what}_security may be 'none' only for a server on this machine"):
        EmailSettings(**given)
