"""The skills of an agent group: `skills/<name>/SKILL.md` in its workspace, with a name and a description on top.

---
name: weekly-report
description: How to write the weekly report.
---
Text for the model, shown when it asks for it.
"""

from __future__ import annotations

import re
from pathlib import Path

from container_agent.prompt.folder import names_in, text_in
from container_agent.prompt.front_matter import split
from shared_schema.dataclass import dataclass

MAX_SKILLS = 50
_MAX_BODY = 25_000
_MAX_DESCRIPTION = 500
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill. `folder` is its path relative to the workspace."""

    name: str
    description: str
    body: str
    folder: str


def skills_in(workspace: Path) -> tuple[list[Skill], list[str]]:
    """The skills, sorted by name, and notes about those that cannot be used."""
    found: dict[str, Skill] = {}
    notes: list[str] = []
    base = workspace / "skills"
    for folder in names_in(workspace, base, most=MAX_SKILLS):
        read = text_in(workspace, base / folder / "SKILL.md", most=_MAX_BODY)
        if not read.text:
            notes += [read.note] if read.note else []
            continue
        head, body = split(read.text)
        name, description = head.get("name", folder), " ".join(head.get("description", "").split())
        if not _NAME.fullmatch(name) or not description:
            notes.append(f"skills/{folder}/SKILL.md has no proper name and description, and is left out")
        elif name in found:
            notes.append(f"skills/{folder}/SKILL.md has the name of another skill, and is left out")
        else:
            cut = f"\n\n[{read.note}]" if read.note else ""
            found[name] = Skill(name, description[:_MAX_DESCRIPTION], body + cut, f"skills/{folder}")
    return [found[name] for name in sorted(found)], notes
