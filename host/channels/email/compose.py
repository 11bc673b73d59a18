"""From a message of the agent's to the bytes of a mail: text, HTML, files. Blocks: it reads the files."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from host.channels.email.threads import Thread
from host.channels.html import to_html
from shared_schema.text import one_line, without_lone_surrogates

# Ids and subjects stand on one line each; Python's folding would encode an id that is longer than its line.
_POLICY = SMTP.clone(max_line_length=990, cte_type="7bit")
_LONGEST_SUBJECT = 200


def mail(
    *,
    sender: str,
    sender_name: str | None,
    recipient: str,
    message_id: str,
    thread: Thread | None,
    reply_to: str | None,
    text: str,
    files: Sequence[Path],
    now: datetime,
) -> bytes:
    """A mail. Without a thread it begins one, and is called by the first line of its text.

    `Auto-Submitted` (RFC 3834) keeps other machines from answering it.
    """
    text = without_lone_surrogates(text).replace("\0", "")
    message = EmailMessage(policy=_POLICY)
    message["From"] = _address(sender, sender_name)
    message["To"] = _address(recipient, None)
    message["Subject"] = subject_of(text, thread)
    message["Date"] = format_datetime(now)
    message["Message-ID"] = message_id
    if thread is not None:
        message["In-Reply-To"] = reply_to or thread.root
        others = [reply_to] if reply_to is not None and reply_to != thread.root else []
        message["References"] = " ".join([thread.root, *others])
    message["Auto-Submitted"] = "auto-generated" if thread is None else "auto-replied"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(text + "\n")
    message.add_alternative(f"<!DOCTYPE html>\n<html><body>{to_html(text)}</body></html>\n", subtype="html")
    for path in files:
        kind = (mimetypes.guess_type(path.name)[0] or "application/octet-stream").split("/")
        main, sub = ("application", "octet-stream") if kind[0] in ("message", "multipart") else kind
        message.add_attachment(path.read_bytes(), maintype=main, subtype=sub, filename=path.name)
    return message.as_bytes()


def subject_of(text: str, thread: Thread | None) -> str:
    """`Re: ` and the subject of the thread, or the first line of the text."""
    if thread is None:
        line = next((line for line in text.splitlines() if line.strip()), "")
        return one_line(line.strip("#* `>"), _LONGEST_SUBJECT) or "A message"
    subject = one_line(thread.subject, _LONGEST_SUBJECT) or "your message"
    return subject if subject[:3].lower() == "re:" else f"Re: {subject}"


def _address(address: str, name: str | None) -> Address:
    user, _, domain = address.rpartition("@")
    return Address(display_name=one_line(name or "", 100), username=user, domain=domain)
