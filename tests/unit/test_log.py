"""Log lines: for a person on a terminal, for a machine otherwise, and what came from outside is harmless in both."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from host.log import JsonFormatter, TextFormatter
from shared_schema.clock import ManualClock

ROOT = Path(__file__).resolve().parents[2]
IDS: dict[str, Any] = {"session": "ses_1", "message_id": "msg_1"}
HOSTILE = "\x1b[2J\x1b]0;title\x07a\r\nb\x9bc\x85\u202ed\u2028e\x7f\x00"


def logged(formatter: logging.Formatter, text: str = "it happened", *, level: int = logging.INFO, **extra: Any) -> str:
    """One line through that formatter."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("host.test")
    logger.addHandler(handler)
    logger.log(level, text, extra=extra)
    return stream.getvalue()


def logged_error(formatter: logging.Formatter, error: Exception) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("host.test")
    logger.addHandler(handler)
    try:
        raise error
    except Exception:
        logger.exception("it broke", extra=IDS)
    return stream.getvalue()


def as_json() -> JsonFormatter:
    return JsonFormatter(ManualClock(datetime(2026, 2, 28, 12, 0, 0, 42_000, tzinfo=UTC)))


def test_a_json_line_has_the_time_in_utc_and_the_ids_as_fields() -> None:
    line = logged(as_json(), **IDS, wait=1.5)
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "time": "2026-02-28T12:00:00.042Z",
        "level": "info",
        "event": "it happened",
        "logger": "host.test",
        "session": "ses_1",
        "message_id": "msg_1",
        "wait": 1.5,
    }


def test_a_text_line_has_the_ids_behind_the_text() -> None:
    line = logged(TextFormatter(colour=False), **IDS, reason="it is gone")
    time, rest = line.split(" ", 1)
    assert len(time) == len("12:30:01")
    assert rest == 'it happened  session=ses_1  message_id=msg_1  reason="it is gone"\n'


@pytest.mark.parametrize(
    ("level", "head", "colour"),
    [
        (logging.INFO, "", ""),
        (logging.WARNING, "warning: ", "\x1b[33m"),
        (logging.ERROR, "error: ", "\x1b[31m"),
        (logging.CRITICAL, "critical: ", "\x1b[31m"),
    ],
)
def test_trouble_says_so_and_has_a_colour_on_a_terminal(level: int, head: str, colour: str) -> None:
    plain = logged(TextFormatter(colour=False), level=level, **IDS)
    assert f" {head}it happened  session=" in plain
    assert "\x1b" not in plain
    coloured = logged(TextFormatter(colour=True), level=level, **IDS)
    assert coloured.startswith(colour)
    assert ("\x1b[0m  session=" in coloured) is bool(colour)


@pytest.mark.parametrize("formatter", [as_json(), TextFormatter(colour=False)], ids=["json", "text"])
def test_what_a_field_brings_from_outside_cannot_control_a_terminal_or_begin_a_line(
    formatter: logging.Formatter,
) -> None:
    line = logged(formatter, what=HOSTILE, **IDS)
    assert line.count("\n") == 1
    assert line.removesuffix("\n").isprintable()


def test_a_text_line_has_nothing_unprintable_at_all() -> None:
    line = logged(TextFormatter(colour=True), what=HOSTILE)
    assert line.removesuffix("\n").isprintable()
    assert "[2J" in line


def test_a_json_line_gives_the_value_back_as_it_was() -> None:
    for what in (HOSTILE, "half \ud83d a character", "Grüße 你好"):
        line = logged(as_json(), what=what, path=Path("/a b"))
        assert json.loads(line)["what"] == what
        assert line.encode()
    assert "Grüße 你好" in logged(as_json(), what="Grüße 你好")
    assert json.loads(logged(as_json(), path=Path("/a b")))["path"] == "/a b"


def test_a_traceback_is_one_field_in_json_and_lines_below_in_text() -> None:
    line = logged_error(as_json(), ValueError("a bug"))
    assert line.count("\n") == 1
    parsed = json.loads(line)
    assert (parsed["event"], parsed["session"], parsed["level"]) == ("it broke", "ses_1", "error")
    assert parsed["traceback"].endswith("ValueError: a bug")
    text = logged_error(TextFormatter(colour=False), ValueError("a bug")).splitlines()
    assert text[0].endswith(" error: it broke  session=ses_1  message_id=msg_1")
    assert (text[1], text[-1]) == ("Traceback (most recent call last):", "ValueError: a bug")


def test_neither_a_message_nor_a_traceback_can_control_a_terminal() -> None:
    assert "\x1b" not in logged(TextFormatter(colour=False), "the agent died: \x1b[2J")
    assert "\x1b" not in logged_error(TextFormatter(colour=False), ValueError("\x1b[2J"))


def test_a_field_cannot_look_like_two() -> None:
    line = logged(TextFormatter(colour=False), what='x" session="ses_2')
    assert line.endswith('  what="x\\" session=\\"ses_2"\n')


SCRIPT = """
import logging, sys
from host.log import configure
configure(sys.argv[1], sys.argv[2])
log = logging.getLogger("host.test")
log.debug("quiet"); log.info("usual", extra={"session": "ses_1"}); log.error("loud")
logging.getLogger("docker").info("noise")
"""


def printed(level: str, form: str, *, terminal: bool = False) -> list[str]:
    """What a process that configures its log so prints on standard error."""
    reading, writing = pty.openpty() if terminal else os.pipe()
    try:
        subprocess.run(
            [sys.executable, "-c", SCRIPT, level, form],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=writing,
            timeout=60,
            check=True,
        )
        return os.read(reading, 100_000).decode().splitlines()
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("level", "events"),
    [("debug", ["quiet", "usual", "loud"]), ("info", ["usual", "loud"]), ("error", ["loud"])],
)
def test_a_pipe_gets_json_lines_of_the_level_and_above(level: str, events: list[str]) -> None:
    assert [json.loads(line)["event"] for line in printed(level, "auto")] == events


def test_a_terminal_gets_text() -> None:
    usual, loud = printed("info", "auto", terminal=True)
    assert usual.endswith(" usual  session=ses_1")
    assert loud.startswith("\x1b[31m")
    assert loud.endswith(" error: loud\x1b[0m")


def test_the_form_can_be_chosen() -> None:
    assert json.loads(printed("info", "json", terminal=True)[0])["session"] == "ses_1"
    assert printed("info", "text")[0].endswith(" usual  session=ses_1")


@pytest.mark.parametrize("formatter", [as_json(), TextFormatter(colour=False)], ids=["json", "text"])
def test_no_line_has_a_control_character_of_either_set(formatter: logging.Formatter) -> None:
    line = logged(formatter, "it\x9b31m happened", what=HOSTILE, other="\x85\x9d0;title\x9c\u2028\u2066")
    assert line.rstrip("\n").isprintable()
