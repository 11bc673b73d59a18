"""The tool `use_skill`: how to do something that the agent group has written down."""

from __future__ import annotations

from collections.abc import Sequence

from container_agent.prompt.skills import Skill
from container_agent.tools.schema import form
from container_agent.tools.tool import Arguments, Tool


def tool(skills: Sequence[Skill]) -> Tool:
    """The tool over these skills; there must be some."""
    known = {skill.name: skill for skill in skills}

    async def run(arguments: Arguments) -> str:
        chosen = known[arguments["name"]]
        return f"{chosen.body}\n\n[files of this skill: {chosen.folder}]"

    name = {"type": "string", "description": "The skill.", "enum": list(known)}
    return Tool("use_skill", "Read how to do something, before you do it.", form({"name": name}), run)
