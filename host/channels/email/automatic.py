"""Mails that no person has written: they are never answered, so that two machines never answer each other. Pure.

RFC 3834 says what to look at; the rest is what bounces, lists and older auto-responders are known to send.
"""

from __future__ import annotations

from host.channels.email.mime import MailHead

_MACHINES = ("mailer-daemon", "postmaster", "noreply", "no-reply", "donotreply", "do-not-reply", "bounce", "bounces")
_LISTS = ("list-id", "list-post", "list-unsubscribe", "list-help", "mailing-list", "x-mailing-list", "feedback-id")
_RESPONDERS = ("x-autoreply", "x-autorespond", "x-auto-reply-from", "x-mail-autoreply", "x-loop")


def automatic(head: MailHead, sender: str) -> str | None:
    """Why a mail is not a person's; None if nothing says so."""
    submitted = head.first("auto-submitted").partition(";")[0].strip().lower()
    if submitted and submitted != "no":
        return "it was sent automatically"
    if head.first("return-path").strip() == "<>":
        return "it is a bounce"
    if head.content_type() in ("multipart/report", "message/delivery-status", "message/disposition-notification"):
        return "it is a report"
    if head.first("precedence").strip().lower() in ("bulk", "list", "junk", "auto_reply"):
        return "it was sent to many"
    if any(head.first(name) for name in _LISTS):
        return "it comes from a list"
    if any(head.first(name) for name in _RESPONDERS):
        return "it was sent automatically"
    if head.first("x-auto-response-suppress").strip().lower() == "all":
        return "it was sent automatically"
    local = sender.partition("@")[0]
    if local in _MACHINES or local.startswith(("bounce+", "bounces+", "bounce-", "bounces-")):
        return "its sender is a machine"
    return None
