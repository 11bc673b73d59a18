"""A real mail server: Dovecot for the mailboxes, aiosmtpd for sending, and people who write.

One Dovecot, without encryption, serves a whole run of tests; each test has a mailbox of its own. What the SMTP server
takes for a mailbox lies in it, and `sent` has every mail it took. It does wrong what it is told to: `refuses`,
`answers`, `drops_after`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTP as SMTP_POLICY
from email.policy import default
from email.utils import make_msgid
from pathlib import Path
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.ports import free_port
from tests.support.wait import until, until_sync

PASSWORD = "canary-4f1d7a90-of-the-mailbox"
AUTHSERV_ID = "mx.agents.test"
DOMAIN = "agents.test"
_USER_ID = 65534  # nobody
_NUMBERS = itertools.count(1)

_CONFIGURATION = """
protocols = imap
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
{tls}
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:{folder}/mail/%u
mail_fsync = never
mailbox_idle_check_interval = 1 s
maildir_very_dirty_syncs = no
first_valid_uid = 1
mail_privileged_group =
mail_plugins =
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={uid} home={folder}/mail/%u
}}
namespace inbox {{
  inbox = yes
  mailbox Sent {{
    auto = create
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
"""


def missing_dovecot() -> str | None:
    """Why there can be no Dovecot here; None when there can."""
    if shutil.which("dovecot") is None:
        return "dovecot is not installed (Debian: dovecot-imapd)"
    return None if os.geteuid() == 0 else "dovecot is started as root"


@dataclass
class Dovecot:
    """A running Dovecot on a port of the loopback. It can be stopped and started again; its mail stays."""

    folder: Path
    port: int
    certificate: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        configuration = self.folder / "dovecot.conf"
        tls = "ssl = no"
        if self.certificate is not None:
            tls = f"ssl = required\nssl_cert = <{self.certificate}\nssl_key = <{self.certificate.with_name('key.pem')}"
        configuration.write_text(
            _CONFIGURATION.format(folder=self.folder, password=PASSWORD, uid=_USER_ID, port=self.port, tls=tls)
        )
        self.process = subprocess.Popen(["dovecot", "-F", "-c", str(configuration)], stdin=subprocess.DEVNULL)
        until_sync(self._is_up, "dovecot takes connections", 60)

    def stop(self) -> None:
        """End it with all its connections."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
            self.process = None

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "dovecot.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def dovecot(certificate: Path | None = None) -> Iterator[Dovecot]:
    """A Dovecot until the block ends. With a certificate (its key is `key.pem` beside it) it insists on STARTTLS."""
    folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
    folder.chmod(0o755)
    (folder / "run").mkdir()
    (folder / "mail").mkdir()
    os.chown(folder / "mail", _USER_ID, _USER_ID)
    server = Dovecot(folder, free_port(), certificate)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Sent:
    """A mail that the SMTP server took."""

    recipients: list[str]
    message: EmailMessage

    @property
    def text(self) -> str:
        """Its plain text."""
        body = self.message.get_body(("plain",))
        assert body is not None
        return str(body.get_content()).strip()


@dataclass
class MailServer:
    """One mailbox, the SMTP server, and the people who write to it."""

    dovecot: Dovecot
    address: str
    smtp_port: int = 0
    sent: list[Sent] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    answers: list[str] = field(default_factory=list)
    drops_after: int = 0
    slow: float = 0.0
    certificate: Path | None = None
    _server: asyncio.Server | None = None

    @classmethod
    def new(cls, server: Dovecot) -> Self:
        """A mailbox of its own."""
        return cls(server, f"bot-{next(_NUMBERS)}@{DOMAIN}")

    @property
    def maildir(self) -> Path:
        """Where the mails of the mailbox lie."""
        return self.dovecot.folder / "mail" / self.address

    def settings(self, **more: Any) -> dict[str, Any]:
        """`[channels.<name>]` for this mailbox."""
        return {
            "address": self.address,
            "password": PASSWORD,
            "imap_host": "127.0.0.1",
            "imap_port": self.dovecot.port,
            "imap_security": "none",
            "smtp_host": "127.0.0.1",
            "smtp_port": self.smtp_port,
            "smtp_security": "none",
            "authserv_id": AUTHSERV_ID,
            "poll_seconds": 5,
            **more,
        }

    async def start(self) -> None:
        """Take mail. Also again after `stop`."""
        for folder in ("cur", "new", "tmp"):
            (self.maildir / folder).mkdir(parents=True, exist_ok=True)
        for path in (self.maildir, *self.maildir.iterdir()):
            os.chown(path, _USER_ID, _USER_ID)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", self.smtp_port)
        self.smtp_port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Take no mail any more."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _protocol(self) -> SMTP:
        tls = None
        if self.certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(self.certificate, self.certificate.with_name("key.pem"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a password without TLS is no good idea; this is the loopback
            return SMTP(
                self,
                hostname=AUTHSERV_ID,
                authenticator=self._authenticate,
                auth_required=True,
                auth_require_tls=tls is not None,
                tls_context=tls,
                require_starttls=tls is not None,
                data_size_limit=2_000_000,
            )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        is_right = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
        return AuthResult(success=is_right, handled=False)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuses:
            return "550 5.1.1 there is no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.slow)
        if self.answers:
            return self.answers.pop(0)
        assert isinstance(envelope.content, bytes)
        message = BytesParser(policy=default).parsebytes(envelope.content)
        assert isinstance(message, EmailMessage)
        self.sent.append(Sent(list(envelope.rcpt_tos), message))
        if self.address in envelope.rcpt_tos:
            self.put(envelope.content)
        if self.drops_after:
            self.drops_after -= 1
            assert server.transport is not None
            server.transport.abort()
        return "250 taken"

    def put(self, data: bytes) -> None:
        """A mail is in the mailbox."""
        name = f"{next(_NUMBERS):08d}.{uuid.uuid4().hex}.test"
        draft = self.maildir / "tmp" / name
        draft.write_bytes(data)
        os.chown(draft, _USER_ID, _USER_ID)
        draft.rename(self.maildir / "new" / name)

    def write(
        self,
        text: str,
        *,
        sender: str = "Ann <ann@people.test>",
        is_genuine: bool = True,
        html: str | None = None,
        files: dict[str, bytes] | None = None,
        message_id: str | None = None,
        **headers: str,
    ) -> str:
        """A person sends a mail, and the server that receives it says whether it is theirs; the message id."""
        message = EmailMessage(policy=SMTP_POLICY)
        message_id = message_id or make_msgid(domain="people.test")
        given = {"From": sender, "To": self.address, "Message-ID": message_id}
        for name, value in (given | {name.replace("_", "-"): value for name, value in headers.items()}).items():
            message[name] = value
        message.set_content(text)
        if html is not None:
            message.add_alternative(html, subtype="html")
        for name, data in (files or {}).items():
            message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
        domain = sender.rstrip(">").rpartition("@")[2]
        result = f"dmarc={'pass' if is_genuine else 'fail'} (p=none) header.from={domain}"
        self.put(f"Authentication-Results: {AUTHSERV_ID};\r\n {result}\r\n".encode() + message.as_bytes())
        return message_id

    async def got(self, count: int) -> list[Sent]:
        """Wait until so many mails were sent to people."""
        await until(lambda: len(self.to_people()) >= count, f"{count} mails are sent", 60)
        return self.to_people()

    async def said(self, text: str) -> Sent:
        """Wait until somebody was sent this text."""
        await until(lambda: any(sent.text == text for sent in self.to_people()), f"'{text}' is sent", 60)
        return next(sent for sent in self.to_people() if sent.text == text)

    def to_people(self) -> list[Sent]:
        """The mails that went out, by message id: a mail that was sent twice is there twice."""
        return [sent for sent in self.sent if any(each != self.address for each in sent.recipients)]


@asynccontextmanager
async def mail_server(server: Dovecot) -> AsyncIterator[MailServer]:
    """A mailbox of its own, until the block ends."""
    mailbox = MailServer.new(server)
    await mailbox.start()
    try:
        yield mailbox
    finally:
        await mailbox.stop()
