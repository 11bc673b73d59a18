"""`use_skill` is there when there are skills, and only then."""

from __future__ import annotations

from container_agent.prompt.skills import skills_in
from tests.agent.session import BareSession
from tests.tools.bench import Turn, write


async def test_a_skill_is_read_by_its_name(turn: Turn, session: BareSession) -> None:
    assert "use_skill" not in [tool.name for tool in (await turn.tools()).definitions]
    write(session.workspace / "skills" / "tea" / "SKILL.md", "---\nname: tea\ndescription: Tea.\n---\nBoil water.")
    box = await turn.tools(skills=skills_in(session.workspace)[0])
    assert await box.call("use_skill", {"name": "tea"}) == "Boil water.\n\n[files of this skill: skills/tea]"
    assert await box.call("use_skill", {"name": "coffee"}) == "Error: the argument 'name' must be one of: tea"


async def test_a_provider_with_tools_of_its_own_gets_only_what_it_lacks(turn: Turn) -> None:
    names = {tool.name for tool in (await turn.tools(brings_own=True)).definitions}
    assert "send_message" in names
    assert not names & {"bash", "read_file", "write_file", "edit_file", "list_files", "web_fetch"}
