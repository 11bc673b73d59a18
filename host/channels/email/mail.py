"""From the bytes of a mail to what the host needs of it. Pure; takes any bytes."""

from __future__ import annotations

from dataclasses import field

from host.channels.email.addresses import message_ids, sole_address
from host.channels.email.authentication import is_from
from host.channels.email.automatic import automatic
from host.channels.email.mime import HeadTooLong, MailHead, Part, PartWalk, read_head, words
from host.channels.email.quoted import new_html, new_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.text import one_line, without_lone_surrogates

MAX_TEXT = 500_000
_LONGEST_NAME = 200
_LONGEST_SUBJECT = 300
_FILE_TYPES = {"text/html": "html", "text/plain": "txt", "message/rfc822": "eml", "image/png": "png",
               "image/jpeg": "jpg", "image/gif": "gif", "application/pdf": "pdf"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MailFile:
    """A file that came with a mail: its name as the mail says it, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. `ids` are what it refers to, oldest first; `ignored` says why it is not answered."""

    sender: str
    sender_name: str | None
    subject: str
    text: str
    message_id: str | None
    ids: tuple[str, ...]
    files: tuple[MailFile, ...]
    ignored: str | None = None
    is_own: bool = False
    notes: tuple[str, ...] = field(default=())


def read(data: bytes, *, own: str, authserv_id: str | None, is_whole: bool = True) -> Mail:
    """A mail, and whether it is one to answer: `authserv_id` None believes every sender.

    Raises `InvalidValue` for what has no sender that could be answered, or no end of its headers.
    """
    try:
        head, body = read_head(data)
    except HeadTooLong as error:
        raise InvalidValue(str(error)) from error
    from_headers = head.all("from")
    who = sole_address(from_headers[0]) if len(from_headers) == 1 else None
    if who is None:
        raise InvalidValue("it does not have exactly one sender")
    name, sender = who
    own_ids = message_ids(head.first("message-id"))
    is_own = sender == own
    ignored = "it is our own" if is_own else automatic(head, sender)
    if ignored is None and authserv_id is not None:
        results = head.all("authentication-results")
        if not is_from(sender, results, authserv_id):
            ignored = f"nothing of {authserv_id} says that it comes from {sender}"
    text, files, notes = ("", (), ()) if ignored is not None else _content(head, body, is_whole=is_whole)
    return Mail(
        sender=sender,
        sender_name=one_line(words(name), _LONGEST_NAME) or None,
        subject=one_line(words(head.first("subject")), _LONGEST_SUBJECT),
        text=text,
        message_id=own_ids[0] if len(own_ids) == 1 else None,
        ids=_referred(head),
        files=files,
        ignored=ignored,
        is_own=is_own,
        notes=notes,
    )


def said(mail: Mail) -> str:
    """What the agent hears: a mail that begins a conversation has its subject over it. Commands stand alone."""
    if not mail.text:
        text = mail.subject
    elif mail.ids or not mail.subject or mail.text.startswith("/"):
        text = mail.text
    else:
        text = f"Subject: {mail.subject}\n\n{mail.text}"
    return "\n\n".join([text, *(f"[{note}]" for note in mail.notes)]).strip()


def _referred(head: MailHead) -> tuple[str, ...]:
    references = message_ids(head.first("references"))
    replied = [each for each in message_ids(head.first("in-reply-to")) if each not in references]
    return (*references, *replied[:1])


def _content(head: MailHead, body: bytes, *, is_whole: bool) -> tuple[str, tuple[MailFile, ...], tuple[str, ...]]:
    walk = PartWalk()
    walk.add(head, body, 0)
    plain = [part for part in walk.parts if part.head.content_type() == "text/plain" and not part.is_attached()]
    html = [part for part in walk.parts if part.head.content_type() == "text/html" and not part.is_attached()]
    text = "\n\n".join(filter(None, (new_text(part.text()) for part in plain)))
    if not text:
        text = "\n\n".join(filter(None, (new_html(part.text()) for part in html)))
    files = tuple(_file(part, number) for number, part in enumerate(walk.parts) if _is_file(part))
    notes = []
    if walk.is_cut:
        notes.append("some parts of this mail are left out: there are too many of them, or they are nested too deep")
    if not is_whole:
        notes.append("this mail was too large: its end, and what was attached there, is left out")
    return without_lone_surrogates(text)[:MAX_TEXT], files, tuple(notes)


def _is_file(part: Part) -> bool:
    if part.is_attached():
        return bool(part.data)
    return part.head.content_type() not in ("text/plain", "text/html") and bool(part.data)


def _file(part: Part, number: int) -> MailFile:
    ending = _FILE_TYPES.get(part.head.content_type(), "bin")
    return MailFile(part.name() or f"part-{number + 1}.{ending}", part.data)
