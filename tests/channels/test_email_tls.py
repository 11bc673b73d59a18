"""Reading a mailbox over TLS: a real Dovecot behind a self-made certificate, trusted and not."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from host.channels.build import settings_of
from host.channels.email import TYPE as EMAIL
from host.channels.email.imap import Mailbox
from host.channels.email.settings import EmailSettings
from host.channels.protocol import ChannelUnavailable
from tests.conftest import cannot_run
from tests.platforms.mail_server import PASSWORD, Dovecot


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


def settings(port: int) -> EmailSettings:
    given = {"address": "tls@agents.test", "password": PASSWORD, "imap_host": "localhost", "imap_port": port,
             "smtp_host": "localhost", "authserv_id": "mx"}  # fmt: skip
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


async def test_a_port_where_no_server_listens_is_said_at_once(unused_tcp_port: int) -> None:
    with pytest.raises(ChannelUnavailable, match="localhost cannot be reached"):
        await Mailbox.open(settings(unused_tcp_port))


@pytest.mark.parametrize("what", ["imap", "smtp"])
def test_a_password_is_not_sent_in_the_clear_over_a_network(what: str) -> None:
    given = settings(993).model_dump() | {f"{what}_host": "mail.example.org", f"{what}_security": "none"}
    with pytest.raises(ValueError, match=f"{what}_security may be 'none' only for a server on this machine"):
        EmailSettings(**given)
