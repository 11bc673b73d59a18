"""What comes to an agent's tools: arguments that a model makes up, and pages of the web."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from container_agent.tools import files, messages, question, requests, schema, shell
from container_agent.tools import web as fetching
from container_agent.tools.tool import Arguments, Tool
from container_agent.tools.toolbox import Toolbox
from shared_schema.clock import SystemClock
from shared_schema.html_text import text_of
from tests.agent.session import BareSession
from tests.fuzz.target import Drive, Target, of_bytes
from tests.fuzz.values import ANY_TEXT, BROKEN_JSON, JSON_VALUES
from tests.tools.bench import Turn


def _saying(parameters: Mapping[str, Any]) -> Callable[[Arguments], Awaitable[str]]:
    """What says its arguments."""

    async def run(arguments: Arguments) -> str:
        assert schema.checked(parameters, arguments) == arguments, "what was checked does not fit"
        return json.dumps(arguments, ensure_ascii=False, allow_nan=False)

    return run


def _own_tools(folder: Path) -> list[Tool]:
    """All tools of ours; in place of what they do, they say their arguments."""
    session = BareSession(folder)
    tool_context = Turn(session).tool_context
    found = [
        *messages.tools(tool_context), *requests.tools(tool_context), *files.tools(tool_context.bounds),
        fetching.tool({}),
        question.tool(tool_context, SystemClock()), shell.tool(tool_context, {}),
    ]  # fmt: skip
    return [replace(tool, run=_saying(tool.parameters), max_characters=10**6) for tool in found]


@contextmanager
def _arguments(folder: Path) -> Iterator[Drive]:
    """A call has a result that can be kept, and a tool gets nothing but what its form has."""
    tools = _own_tools(folder)
    box = Toolbox(tools, lambda name, seconds: None)
    names = [tool.name for tool in tools]
    with no_log(), asyncio.Runner() as runner:

        def drive(value: tuple[int | str, Any]) -> None:
            which, given = value
            name = which if isinstance(which, str) else names[which % len(names)]
            result = runner.run(box.answer(name, given))
            result.text.encode()
            assert " failed: " not in result.text, result.text
            if not result.is_error:
                assert json.loads(result.text).keys() <= tools[names.index(name)].parameters["properties"].keys()

        yield drive


@contextmanager
def _page(folder: Path) -> Iterator[Drive]:
    """Any text is some HTML, and is read in little time."""

    def drive(data: bytes) -> None:
        text_of(data.decode("utf-8", "replace")).encode()

    yield drive


@contextmanager
def no_log() -> Iterator[None]:
    log = logging.getLogger("container_agent")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


_NAMES = (
    "text", "path", "name", "destination", "message", "emoji", "title", "fields", "query", "since", "limit", "session",
    "question", "options", "seconds", "command", "url", "old", "new", "offset", "pattern", "timeout",
)  # fmt: skip
VALUES: SearchStrategy[Any] = st.one_of(
    st.sampled_from(("x", "in-1", "out-1", "out-9", "https://example.com/", 1, 1.0, 0, -1, True, 2**60, 1e308, None)),
    st.sampled_from(([], ["x"] * 30, [{"name": "a", "value": "b"}], [{"name": 1}], [[]], {"a": {}}, "x" * 200_000)),
    JSON_VALUES,
)
GIVEN = st.dictionaries(st.sampled_from(_NAMES) | ANY_TEXT, VALUES, max_size=4)
CALLS = st.tuples(
    st.one_of(st.integers(0, 99), st.integers(0, 99), ANY_TEXT),
    st.one_of(GIVEN, GIVEN.map(json.dumps), JSON_VALUES, st.sampled_from(BROKEN_JSON)),
)


def as_json(values: SearchStrategy[Any]) -> SearchStrategy[str]:
    """Mostly what it should be; else any JSON, or what is none."""
    return st.one_of(
        values.map(json.dumps), values.map(json.dumps), JSON_VALUES.map(json.dumps), st.sampled_from(BROKEN_JSON)
    )


def pages() -> Sequence[bytes]:
    """Pages of the web."""
    return [
        b"<!DOCTYPE html><html><head><title>T</title><style>x</style></head><body><h1>A</h1><p>b <a href='http://h/'>c"
        b"</a>&amp;&#x41;</p><ul><li>d<li>e</ul><!-- f --><script>g()</script><pre>h</pre></body></html>",
        b"<![CDATA[x]]><?xml version='1.0'?><svg><svg></svg></svg><template><p>i</template><br/>j",
    ]


TOOLS = (
    Target("tool-arguments", _arguments, CALLS, (), known=(("\ud800", {}), (0, {"\ud800": 1}), (0, '{"\\ud800": 1}'))),
    of_bytes("web-page", _page, pages, (), known=(b"<![x[", b"<!--" * 5_000, b"<a " * 5_000, b"<![" * 5_000)),
)
