"""Which calls of tools wait for a person's yes: rules as an operator writes them, `TOOL` or `TOOL:PATTERN`. Pure.

bash                 every call
bash:git push *      a command that has this in it; * stands for anything, ? for one character
github__create_*     every tool of that name
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

MOST_RULES = 50
LONGEST_RULE = 200
_RUNS_COMMANDS = {"start_process": "bash"}
"""Tools that run a command, too: a rule for the one holds for the other."""


def problem(rule: str) -> str | None:
    """Why a text is no rule, as a sentence; None when it is one."""
    name, colon, pattern = rule.partition(":")
    if not rule.isprintable() or len(rule) > LONGEST_RULE:
        return f"a rule has at most {LONGEST_RULE} printable characters"
    if not name.strip() or " " in name.strip() or (colon and not pattern.strip()):
        return f"'{rule[:80]}' is no rule; write a tool or a tool and a pattern, such as bash:git push *"
    return None


def waits(rules: Iterable[str], tool: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a call of a tool waits for a yes. Names are compared without regard to case."""
    tools = {tool.lower(), _RUNS_COMMANDS.get(tool.lower(), tool.lower())}
    for rule in rules:
        name, _, pattern = rule.partition(":")
        if any(fnmatchcase(each, name.strip().lower()) for each in tools) and (
            not pattern.strip() or fnmatchcase(_said(arguments), f"*{pattern.strip()}*")
        ):
            return True
    return False


def _said(arguments: Mapping[str, Any]) -> str:
    """What a pattern is looked for in: the command, or all arguments, on one line."""
    command = arguments.get("command")
    text = command if isinstance(command, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    return " ".join(text.split())
