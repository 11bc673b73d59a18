"""From what the agent says to the content of a Matrix event. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from host.channels.html import to_html

MAX_BYTES = 20_000
"""Of a text: an event may have 65,536 bytes in all, and the text is in it twice, once as HTML."""
_LARGEST_HTML = 35_000
_USER = re.compile(r"@[a-z0-9._=/+-]{1,100}:[A-Za-z0-9.-]{1,100}(?::[0-9]{1,5})?")
_MOST_MENTIONS = 50


def transaction_id(key: str, part: int = 0) -> str:
    """The id under which a server knows an event that it is sent twice."""
    return f"dw-{hashlib.sha256(key.encode()).hexdigest()[:32]}-{part}"


def text_content(text: str, *, is_notice: bool) -> dict[str, Any]:
    """Returns the content of a text. The people whose ids stand in it are mentioned, and no others."""
    content: dict[str, Any] = {
        "msgtype": "m.notice" if is_notice else "m.text",
        "body": text,
        "m.mentions": {"user_ids": sorted(set(_USER.findall(text)))[:_MOST_MENTIONS]},
    }
    html = to_html(text)
    if len(html.encode("utf-8", "replace")) <= _LARGEST_HTML:
        content |= {"format": "org.matrix.custom.html", "formatted_body": html}
    return content


def edited(content: dict[str, Any], event_id: str) -> dict[str, Any]:
    """Returns the content that takes the place of an event's. It mentions no person anew."""
    return {
        **content,
        "body": f"* {content['body']}",
        "m.mentions": {},
        "m.new_content": content,
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
    }


def file_content(name: str, size: int, kind: str, place: dict[str, Any]) -> dict[str, Any]:
    """The content of a file, which lies at `place` (`url`, or `file` where it is encrypted)."""
    msgtype = {"image": "m.image", "audio": "m.audio", "video": "m.video"}.get(kind.partition("/")[0], "m.file")
    return {"msgtype": msgtype, "body": name, "filename": name, "info": {"size": size, "mimetype": kind}, **place}


def related(content: dict[str, Any], thread_id: str | None, reply_to: str | None) -> dict[str, Any]:
    """The content as a reply, in a thread if there is one."""
    if thread_id is not None:
        # Programs without threads show the reply: to what is answered, or to the first message of the thread.
        relation = {
            "rel_type": "m.thread",
            "event_id": thread_id,
            "is_falling_back": reply_to is None or reply_to == thread_id,
            "m.in_reply_to": {"event_id": reply_to or thread_id},
        }
        return {**content, "m.relates_to": relation}
    if reply_to is not None:
        return {**content, "m.relates_to": {"m.in_reply_to": {"event_id": reply_to}}}
    return content
