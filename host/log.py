"""Logging: text on a terminal, JSON lines otherwise. A line has a constant text, and its ids as fields beside it."""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from collections.abc import Iterable
from typing import TextIO

from host.secrets import hidden
from shared_schema import json_text
from shared_schema.clock import Clock, SystemClock, to_text
from shared_schema.text import escaped_json, printable

_SECRETS: set[str] = set()
"""What no line may show: the secrets of channels, which SDKs of platforms put into their lines and exceptions."""

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NOISY = (
    "docker", "urllib3", "aiohttp.access", "asyncio", "watchfiles", "httpx", "httpcore", "hpack", "markdown_it",
    "apscheduler", "slack_sdk", "slack_bolt", "discord", "nio", "aiosmtplib", "aioimaplib", "githubkit", "websockets",
)  # fmt: skip
"""Libraries that tell at the level `info` what is of no interest to the operator of a host."""
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
_RESET = "\x1b[0m"


def keep_out(secrets: Iterable[str]) -> None:
    """Show these secrets in no line from now on, of any logger and in any traceback."""
    _SECRETS.update(secrets)


def configure(level: str, form: str, stream: TextIO | None = None, clock: Clock | None = None) -> None:
    """Send all log lines of that level and above to `stream` (standard error) as `text`, `json`, or whichever fits."""
    target = sys.stderr if stream is None else stream
    as_json = form == "json" or (form == "auto" and not target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonFormatter(clock or SystemClock()) if as_json else TextFormatter(colour=target.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler, RECENT]
    root.setLevel(level.upper())
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


class RecentLines(logging.Handler):
    """The last lines of this process in memory, for who looks at them without a terminal; secrets are hidden."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._lines: deque[dict[str, object]] = deque(maxlen=most)
        self._formatter = JsonFormatter(SystemClock())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line. One that cannot be shown is none: logging must fail nothing."""
        try:
            line = json_text.parse(self._formatter.format(record))
        except ValueError:
            return
        self._lines.append({name: _bounded(value) for name, value in line.items()})

    def lines(self, *, least: int, session: str | None, limit: int) -> list[dict[str, object]]:
        """The newest lines of at least this level, and of one session, the oldest of them first."""
        found: list[dict[str, object]] = []
        for line in reversed(tuple(self._lines)):
            if logging.getLevelNamesMapping()[str(line["level"]).upper()] < least:
                continue
            if session is None or session in (line.get("session_id"), line.get("session")):
                found.append(line)
                if len(found) == limit:
                    break
        return found[::-1]


_MOST_RECENT = 2_000
_LONGEST_KEPT = 4_000


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_KEPT else f"{value[:_LONGEST_KEPT]}…"
    return value if value is None or isinstance(value, bool | int | float) else _bounded(json.dumps(value))


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
        # A terminal obeys also what JSON need not escape: control characters of the second set, direction marks.
        return escaped_json(hidden(json.dumps(line, ensure_ascii=False, default=str), _SECRETS))


class TextFormatter(logging.Formatter):
    """`12:30:01 text  key=value …` for a person, in the zone of the machine."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        fields = "  ".join(f"{key}={_short(value)}" for key, value in _fields(record).items())
        head = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        line = f"{self.formatTime(record, self.datefmt)} {head}{printable(record.getMessage())}"
        if self._colour and record.levelname in _COLOURS:
            line = f"{_COLOURS[record.levelname]}{line}{_RESET}"
        line = f"{line}  {fields}" if fields else line
        if record.exc_info:
            trace = [printable(part) for part in self.formatException(record.exc_info).splitlines()]
            line = "\n".join([line, *trace])
        return hidden(line, _SECRETS)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


def _short(value: object) -> str:
    text = printable(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text


RECENT = RecentLines(_MOST_RECENT)
"""The log of this process, as `dumbwaiter logs` and the page show it."""
