"""Logging: text on a terminal, JSON lines otherwise. A line has a constant text, and its ids as fields beside it."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TextIO

from shared_schema.clock import Clock, SystemClock, to_text

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_RESET = "\x1b[0m"
_CONTROLS = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
"""What JSON leaves as it is, and a terminal obeys or a reader does not see: C1 controls (`\\x9b` begins a sequence as
ESC [ does), separators of lines, marks that turn the direction of text; and half characters, which cannot be written.
"""


def configure(level: str, form: str, stream: TextIO | None = None, clock: Clock | None = None) -> None:
    """Send all log lines of that level and above to `stream` (standard error) as `text`, `json`, or whichever fits."""
    target = sys.stderr if stream is None else stream
    as_json = form == "json" or (form == "auto" and not target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonFormatter(clock or SystemClock()) if as_json else TextFormatter(colour=target.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("docker", "urllib3", "aiohttp.access", "asyncio", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `event`, `logger`, then the fields."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": to_text(self._clock.now()),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(line, ensure_ascii=False, default=str))


class TextFormatter(logging.Formatter):
    """`12:30:01 text  key=value …` for a person, in the zone of the machine."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        fields = "  ".join(f"{key}={_short(value)}" for key, value in _fields(record).items())
        head = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        line = f"{self.formatTime(record, self.datefmt)} {head}{_clean(record.getMessage())}"
        if self._colour and record.levelname in _COLOURS:
            line = f"{_COLOURS[record.levelname]}{line}{_RESET}"
        line = f"{line}  {fields}" if fields else line
        if record.exc_info:
            trace = [_clean(part) for part in self.formatException(record.exc_info).splitlines()]
            line = "\n".join([line, *trace])
        return line


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


def _short(value: object) -> str:
    text = _clean(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text


def _clean(text: str) -> str:
    """Without anything that could control a terminal or begin a line of its own."""
    return "".join(character if character.isprintable() else "?" for character in text)
