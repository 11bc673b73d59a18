"""The prompt of a turn, from the files as they are when it begins.

Invariant: `stable` comes first and has the same bytes from turn to turn, as long as the agent group's instructions, its
skills and its context stay the same; what changes by itself (memory, notes) is in `changing`, which comes last. So a
vendor's prompt cache holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from container_agent.prompt.folder import text_in
from container_agent.prompt.memory import memory_in
from container_agent.prompt.skills import Skill, skills_in
from container_agent.prompt.template import filled
from shared_schema.dataclass import dataclass

KINDS = ("chat", "heartbeat", "schedule", "agent")
INSTRUCTIONS = "AGENT.md"
_MAX_INSTRUCTIONS = 30_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """The two parts of the system prompt, and the skills that `use_skill` offers. `changing` may be empty."""

    stable: str
    changing: str
    skills: tuple[Skill, ...]


def compose(
    workspace: Path,
    *,
    kind: str = "chat",
    context: str = "",
    reset_note: str = "",
    problems: Sequence[str] = (),
    brings_own: bool = False,
) -> Prompt:
    """Read the workspace and make the prompt. Blocks for as long as reading some small files takes; never fails.

    `kind` is the session's; one that is not known is a chat. `context` is the host's block about chats and people,
    `reset_note` what is to be told once, `problems` what else the model should know of this turn. A provider that
    `brings_own` tools is not told how ours for files work.
    """
    instructions = text_in(workspace, workspace / INSTRUCTIONS, most=_MAX_INSTRUCTIONS)
    skills, notes = skills_in(workspace)
    notes = [note for note in (instructions.note, *notes, *problems) if note]
    values = {
        "instructions": _section("Instructions", instructions.text),
        "context": _section("Where you are", context.strip()),
        "skills": _section("Skills", _listed(skills)),
        "files": "" if brings_own else filled("files", {}),
    }
    stable = filled(kind if kind in KINDS else KINDS[0], values)
    changing = [
        _section("Memory", memory_in(workspace)),
        _section("Notes", "\n".join(f"- {note}" for note in notes)),
        _section("Since last time", reset_note.strip()),
    ]
    return Prompt(stable, "\n\n".join(filter(None, changing)), tuple(skills))


def _section(title: str, text: str) -> str:
    return f"# {title}\n\n{text}" if text else ""


def _listed(skills: Sequence[Skill]) -> str:
    if not skills:
        return ""
    lines = [f"- {skill.name}: {skill.description}" for skill in skills]
    return "\n".join(["Before you do one of these, read how with `use_skill`.", "", *lines])
