"""Which tools a turn has. The only place that puts them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from container_agent.prompt.skills import Skill
from container_agent.tools import files, messages, question, requests, shell, skill, web
from container_agent.tools.desk import Desk
from container_agent.tools.servers import Servers
from container_agent.tools.tool import Tool
from container_agent.tools.toolbox import Toolbox
from shared_schema.clock import Clock


async def toolbox(
    desk: Desk,
    clock: Clock,
    environment: Mapping[str, str],
    *,
    skills: Sequence[Skill] = (),
    servers: Servers | None = None,
    brings_own: bool = False,
) -> Toolbox:
    """The tools of one turn. A provider that `brings_own` tools for files, programs and the web gets none of ours.

    Starts the servers that do not run yet; one that fails has no tools.
    """
    found: list[Tool] = [*messages.tools(desk), question.tool(desk, clock), *requests.tools(desk)]
    if not brings_own:
        found += [
            *files.tools(desk.bounds),
            shell.tool(desk.request.workspace, environment),
            web.tool(environment),
        ]
    if skills:
        found.append(skill.tool(skills))
    if servers is not None:
        found += await servers.tools()
    return Toolbox(found, desk.out.set_tool)
