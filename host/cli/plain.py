"""Text from agents and chats, made safe for a terminal: what is printed cannot move the cursor, set the title, hide or
reorder what stands there, or end the program.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Escape sequences as a whole (ECMA-48: CSI, then the string sequences OSC, DCS, SOS, PM, APC, then the short ones), so
# that no rest of them is left as rubbish in the text.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
# Other control characters but tab and newline; line and paragraph separators; what reorders text (Unicode TR 9); halves
# of characters, which cannot be printed at all.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: object) -> str:
    """The text without control characters; lines and tabs stay."""
    lines = str(text).replace("\r\n", "\n")
    return _CONTROL.sub("", _SEQUENCE.sub("", lines))


def one_line(text: object) -> str:
    """The text without control characters, on one line."""
    return " ".join(plain(text).split())


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """The value as JSON that prints safely: what `plain` would take away is escaped, so nothing is lost."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
