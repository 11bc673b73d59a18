"""What an agent says in `session_state` for the host: its background processes, and what its MCP servers notify of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from shared_schema import background, mcp_notices
from shared_schema.background import LONGEST_COMMAND, LONGEST_END, LONGEST_OUTPUT
from shared_schema.mcp_notices import LONGEST_TEXT
from tests.fuzz.target import Drive, Target
from tests.fuzz.values import ANY_TEXT, JSON_VALUES, REPEATED, nearly_right

_TEXTS = ANY_TEXT | REPEATED
_KEYS = st.sampled_from(("0123456789abcdef", "x" * 16, "0" * 17, ""))


def _values(**fields: Any) -> st.SearchStrategy[Any]:
    """A list of nearly right entries as JSON, or any text."""
    return st.lists(nearly_right(JSON_VALUES, key=_KEYS, **fields) | JSON_VALUES, max_size=20).map(json.dumps) | _TEXTS


def _reads(read: Callable[[Any], None]) -> Callable[[Path], Any]:
    @contextmanager
    def opened(folder: Path) -> Iterator[Drive]:
        yield read

    return opened


def _processes(value: Any) -> None:
    for each in background.parsed(value):
        assert background.is_name(each.name)
        assert len(each.command) <= LONGEST_COMMAND
        assert len(each.ended) <= LONGEST_END
        assert len(each.output) <= LONGEST_OUTPUT
        assert "\n" not in each.command + each.ended
        (each.command + each.ended + each.output).encode()


def _notifications(value: Any) -> None:
    for each in mcp_notices.parsed(value):
        assert len(each.text) <= LONGEST_TEXT
        assert "\n" not in each.server + each.method
        (each.server + each.method + each.text).encode()


AGENT_VALUES = (
    Target(
        "background-processes",
        _reads(_processes),
        _values(name=("p1", "P 1", ""), command=_TEXTS, wakes=st.booleans(), ended=_TEXTS, output=_TEXTS),
        (),
    ),
    Target("mcp-notifications", _reads(_notifications), _values(server=_TEXTS, method=_TEXTS, text=_TEXTS), ()),
)
