"""Which tools a turn has. The only place that puts them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from container_agent.prompt.skills import Skill
from container_agent.tools import (
    delegate,
    files,
    messages,
    processes,
    question,
    requests,
    schedules,
    shell,
    skill,
    web,
)
from container_agent.tools.background import BackgroundProcesses
from container_agent.tools.guard import guard_of
from container_agent.tools.own_requests import tools as own_requests
from container_agent.tools.tool import Tool
from container_agent.tools.tool_context import ToolContext
from container_agent.tools.toolbox import Toolbox
from shared_schema.clock import Clock


def toolbox(
    tool_context: ToolContext,
    clock: Clock,
    environment: Mapping[str, str],
    background: BackgroundProcesses,
    *,
    skills: Sequence[Skill] = (),
    foreign: Sequence[Tool] = (),
    brings_own: bool = False,
) -> Toolbox:
    """The tools of one turn. A provider that `brings_own` tools for files, programs and the web gets none of ours.

    `foreign` are those of the servers that were set up, `background` the agent's processes.
    """
    found: list[Tool] = [
        *messages.tools(tool_context),
        question.tool(tool_context, clock),
        *requests.tools(tool_context),
        *schedules.tools(tool_context),
        *processes.tools(tool_context, environment, background),
    ]
    if not brings_own:
        found += [
            *files.tools(tool_context.bounds),
            shell.tool(tool_context, environment),
            web.tool(environment),
        ]
    if skills:
        found.append(skill.tool(skills))
    found += [*own_requests(tool_context), delegate.tool(tool_context)]
    return Toolbox([*found, *foreign], tool_context.out.set_tool, guard_of(tool_context))
