"""How a model is named: `KIND:NAME`, `KIND:NAME@UPSTREAM` or `KIND:NAME@URL`.

The host refuses other names when they are set, the agent when it has to use one.
"""

from __future__ import annotations

import re
from enum import StrEnum

LONGEST = 300
_CLAUDE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]*")


class ModelKind(StrEnum):
    """Whose format a service speaks. `openai` is Chat Completions, which many others speak too."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GOOGLE = "google"
    OLLAMA = "ollama"


def problem(provider: str, text: str) -> str | None:
    """Why a text names no model for a provider, as a sentence; None when it does, as far as its form tells."""
    if not text.isprintable() or len(text) > LONGEST:
        return f"a model is named in at most {LONGEST} printable characters"
    if provider == "model":
        kind, _, name = text.strip().partition(":")
        if kind not in set(ModelKind) or not name.partition("@")[0].strip() or " " in name:
            return f"'{text[:100]}' is not a model; write {', '.join(f'{kind}:NAME' for kind in ModelKind)}"
    is_of_another = text.partition(":")[0] in set(ModelKind) - {ModelKind.ANTHROPIC}
    if provider == "claude" and (is_of_another or not _CLAUDE.fullmatch(text)):
        return f"'{text[:100]}' is not a model of Claude Code; write a name such as sonnet or claude-sonnet-5-5"
    return None
