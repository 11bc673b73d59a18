"""What an agent asks for about itself, as kinds of approvals: a host it may reach, a server of tools, a call of a tool.

The same function does what was asked for when a person says yes and when the policy allows it without asking.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from host.access.cards import ApprovalChoice
from host.access.kinds import ApprovalDecision, ApprovalKind, ApprovalOutcome
from host.access.policies import PolicyAct
from host.access.told_to_agents import tell
from host.central import agent_groups, agent_links, audit, call_grants, container_changes, tool_server_problems
from host.central.agent_groups import AgentGroup
from host.central.approvals import Approval, ApprovalState
from host.central.container_changes import ChangeKind
from host.central.database import Queryable, Transaction
from host.gateway.policy import parse_rule
from shared_schema import json_text, packages
from shared_schema.clock import from_text, to_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import Conflict, InvalidValue
from shared_schema.models import problem as model_problem
from shared_schema.packages import MANAGERS, MOST_ASKED, MOST_PACKAGES, Packages
from shared_schema.tool_servers import stored

GRANTED_FOR = timedelta(hours=1)
"""How long a call that was allowed once may be made: the agent may have to be woken for it."""
MOST_CHILDREN = 10
"""Agents that one agent has made."""
MOST_CHANGES = 5
"""Changes of the containers of one agent group that wait or are built."""
PARENT = "parent"
"""What an agent that was made by another one calls it."""
ONCE, CONVERSATION = "once", "conversation"
_YES = (ApprovalChoice("yes", "Yes"),)
_CALLS = (ApprovalChoice(ONCE, "Once"), ApprovalChoice(CONVERSATION, "Always in this conversation"))


@dataclass(frozen=True, slots=True)
class AgentAct:
    """One thing an agent may ask for. `wish` checks the arguments and gives those of the card with its subject;
    `carry_out` does it and says so in a sentence. Both raise `DumbwaiterError`.
    """

    policy: PolicyAct
    kind: ApprovalKind
    wish: Callable[[Transaction, AgentGroup, Mapping[str, Any]], tuple[str, dict[str, Any]]]
    carry_out: Callable[[Transaction, AgentGroup, Mapping[str, Any]], str]


def _one(connection: Queryable, about: Mapping[str, Any]) -> Sequence[ApprovalChoice]:
    return _YES


def _host_wish(connection: Queryable, group: AgentGroup, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    host = str(arguments["host"]).strip().lower()
    rule = parse_rule(host)
    if rule.network is not None and rule.network.num_addresses > 1:
        raise InvalidValue("an agent can ask for a host, and not for a network", hint="ask for each host")
    if host in group.allowed_hosts:
        raise Conflict(f"you may reach {host} already")
    return host, {"host": host, "why": arguments["reason"]}


def _allow_host(tx: Transaction, group: AgentGroup, about: Mapping[str, Any]) -> str:
    hosts = sorted({*group.allowed_hosts, str(about["host"])})
    _changed(tx, group, replace(group, allow=json.dumps(hosts)), {"allow": group.allowed_hosts}, {"allow": hosts})
    return f"{group.name} may reach {about['host']} from now on."


def _server_wish(connection: Queryable, group: AgentGroup, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name = str(arguments["name"])
    try:
        found = json_text.parse(str(arguments["configuration"]))
    except ValueError as error:
        raise InvalidValue("the configuration is not JSON", hint='write {"command": "…", "args": ["…"]}') from error
    if name in _servers(group):
        raise Conflict(f"there is a server of tools '{name}' already")
    said = json.dumps(found, ensure_ascii=False, indent=1)
    _with_server(group, name, found)
    return name, {"name": name, "configuration": said, "why": arguments["reason"]}


def _add_server(tx: Transaction, group: AgentGroup, about: Mapping[str, Any]) -> str:
    name = str(about["name"])
    after = _with_server(group, name, json_text.parse(str(about["configuration"])))
    names = sorted(_servers(group))
    _changed(tx, group, replace(group, tool_servers=after), {"tool_servers": names}, {"tool_servers": [*names, name]})
    tool_server_problems.forget(tx, group.id)
    return f"{group.name} has the tools of '{name}' from its next turn on."


def _agent_wish(connection: Queryable, group: AgentGroup, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    name = agent_groups.valid_name(str(arguments["name"]))
    if agent_links.is_named(connection, group.id, PARENT):
        raise Conflict("an agent that was made by another one makes none itself", hint="ask your parent")
    if agent_links.children(connection, group.id) >= MOST_CHILDREN:
        raise Conflict(f"{group.name} has made {MOST_CHILDREN} agents already, and no more are made")
    if agent_groups.find(connection, name) is not None or agent_groups.has_destination(connection, group.id, name):
        raise Conflict(f"the name '{name}' is taken", hint="choose another one")
    model = str(arguments["model"] or group.model or "") or None
    if model is not None and (sentence := model_problem(group.provider, model)):
        raise InvalidValue(sentence)
    budget = f"${group.budget_usd:g}" if group.budget_usd is not None else ""
    tokens = f"{group.budget_tokens:,} tokens" if group.budget_tokens is not None else ""
    limits = " and ".join(part for part in (budget, tokens) if part)
    return name, {
        "name": name,
        "provider": group.provider,
        "model": model,
        "budget": f"{limits} a {group.budget_period}, as its maker" if limits else "none, as its maker",
        "instructions": arguments["instructions"],
        "why": arguments["reason"],
    }


def _make_agent(tx: Transaction, group: AgentGroup, about: Mapping[str, Any]) -> str:
    """An agent with the settings of its maker and instructions of its own; each may write to the other."""
    if agent_links.children(tx, group.id) >= MOST_CHILDREN:
        raise Conflict(f"{group.name} has made {MOST_CHILDREN} agents already, and no more are made.")
    made = agent_groups.new_agent_group(
        str(about["name"]), created_at=tx.now, provider=str(about["provider"]), model=about["model"]
    )
    child = replace(
        group,
        id=made.id,
        name=made.name,
        folder=f"{made.name[:50]}-{made.id[-6:]}",  # never the workspace that an agent of that name has left
        model=made.model,
        created_at=tx.now,
        mounts="[]",
        allow="[]",
        tool_servers=None,
        instructions=str(about["instructions"]),
    )
    agent_groups.insert(tx, child)
    agent_groups.add_link(tx, group, child.name, child)
    agent_groups.add_link(tx, child, PARENT, group)
    audit.record(tx, "agent_group.add", child.name, after={"made_by": group.name, "model": child.model})
    return f"The agent {child.name} is there; {group.name} writes to it with the destination '{child.name}'."


def _packages_wish(
    connection: Queryable, group: AgentGroup, arguments: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    wanted = _packages(arguments)
    for manager in MANAGERS:
        for package in getattr(wanted, manager):
            if sentence := packages.problem(manager, package):
                raise InvalidValue(sentence)
    count = len(wanted.apt) + len(wanted.pip)
    if not 0 < count <= MOST_ASKED:
        raise InvalidValue(f"name 1 to {MOST_ASKED} packages for apt or pip")
    layer = None if group.layer is None else container_changes.get(connection, group.layer)
    present = Packages() if layer is None else layer.all_packages
    after = present.with_more(wanted)
    if after == present:
        raise Conflict("they are installed already")
    if len(after.apt) + len(after.pip) > MOST_PACKAGES:
        raise Conflict(f"{group.name} may have {MOST_PACKAGES} packages, and that would be more")
    if container_changes.open_count(connection, group.id) >= MOST_CHANGES:
        raise Conflict(
            "several changes of your container are under way already", hint="wait until you are told of them"
        )
    about = {"apt": " ".join(wanted.apt) or None, "pip": " ".join(wanted.pip) or None}
    subject = " ".join([*wanted.apt, "pip:", *wanted.pip])
    return subject, {name: said for name, said in about.items() if said} | {"why": arguments["reason"]}


def _packages(about: Mapping[str, Any]) -> Packages:
    return Packages().with_more(Packages(*(tuple(str(about.get(name) or "").split()) for name in MANAGERS)))


def _install(tx: Transaction, group: AgentGroup, about: Mapping[str, Any]) -> str:
    wanted = _packages(about)
    container_changes.add(tx, group.id, str(about["session_id"]), ChangeKind.PACKAGES, wanted.as_json())
    audit.record(tx, "agent_group.packages", group.name, after=wanted.as_json())
    return f"The image of {group.name} is being built with {', '.join([*wanted.apt, *wanted.pip])}; the agent is told."


def _mount_wish(connection: Queryable, group: AgentGroup, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    path, name, access = str(arguments["path"]), str(arguments["name"]), str(arguments["access"])
    if access not in ("read", "write"):
        raise InvalidValue("'access' must be read or write")
    if any(mount["name"] == name for mount in group.mount_requests):
        raise Conflict(f"there is a folder /mnt/{name} already")
    if container_changes.open_count(connection, group.id) >= MOST_CHANGES:
        raise Conflict(
            "several changes of your container are under way already", hint="wait until you are told of them"
        )
    return f"{path} {name}", {"folder": path, "name": name, "access": access, "why": arguments["reason"]}


def _mount(tx: Transaction, group: AgentGroup, about: Mapping[str, Any]) -> str:
    wanted = {"path": str(about["folder"]), "name": str(about["name"]), "writable": about["access"] == "write"}
    container_changes.add(tx, group.id, str(about["session_id"]), ChangeKind.MOUNT, wanted)
    audit.record(tx, "agent_group.mount", group.name, after=wanted)
    return f"{group.name} gets {wanted['path']} as /mnt/{wanted['name']} when its container is replaced; it is told."


def _servers(group: AgentGroup) -> dict[str, Any]:
    found = json_text.parse(group.tool_servers) if group.tool_servers else {}
    return found if isinstance(found, dict) else {}


def _with_server(group: AgentGroup, name: str, configuration: Any) -> str:
    """The stored servers with one more. Raises `InvalidValue`."""
    return stored(json.dumps({**_servers(group), name: configuration}))


def _changed(
    tx: Transaction, group: AgentGroup, changed: AgentGroup, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    agent_groups.update(tx, changed)
    audit.record(tx, "agent_group.set", group.name, before=dict(before), after=dict(after))


def _approved_act(name: str) -> Callable[[Transaction, ApprovalDecision], ApprovalOutcome]:
    def approved(tx: Transaction, decision: ApprovalDecision) -> ApprovalOutcome:
        about = decision.approval.about
        group = agent_groups.by_id(tx, str(about["agent_group_id"]))
        if group is None:
            raise Conflict("That agent is gone.")
        return ApprovalOutcome(ACTS[name].carry_out(tx, group, about), (group.id,))

    return approved


def _told(tx: Transaction, approval: Approval) -> None:
    """The conversation that asked hears how it ended."""
    about = approval.about
    what = f"{about.get('tool') or approval.kind} {about.get('host') or about.get('name') or ''}".strip()
    match approval.state:
        case ApprovalState.APPROVED if approval.kind == CALL.name:
            text = (
                f"Your call of {what} is allowed ({approval.decided_by}). Make the very same call now, within the hour."
            )
        case ApprovalState.APPROVED:
            text = f"Your request is approved by {approval.decided_by}. {approval.outcome or ''}".strip()
        case ApprovalState.DENIED:
            text = f"Your request ({what}) is denied by {approval.decided_by}. Go on without it, or ask why."
        case _:
            text = f"Your request ({what}) has expired: it was not decided in time. Go on without it."
    more = {"approval": approval.id, "state": approval.state, "by": approval.decided_by}
    tell(tx, str(about["session_id"]), f"approval-{approval.id}", text, more)


_HIDDEN = frozenset({"agent_group_id", "session_id", "call"})


def _told_unless_approved(tx: Transaction, approval: Approval) -> None:
    """The agent hears of a no; a yes takes its time, and it is told when all is there."""
    if approval.state != ApprovalState.APPROVED:
        _told(tx, approval)


def _kind(name: str, question: str, closed: Callable[[Transaction, Approval], None] | None = None) -> ApprovalKind:
    return ApprovalKind(name, question, _one, _approved_act(name), hidden=_HIDDEN, closed=closed or _told)


ACTS: Mapping[str, AgentAct] = {
    "host": AgentAct(PolicyAct.HOSTS, _kind("host", "An agent asks to reach a host."), _host_wish, _allow_host),
    "tool_server": AgentAct(
        PolicyAct.TOOL_SERVERS,
        _kind("tool_server", "An agent asks for a server of tools, which is started where the agent runs."),
        _server_wish,
        _add_server,
    ),
    "new_agent": AgentAct(
        PolicyAct.AGENTS,
        _kind("new_agent", "An agent asks for an agent of its own, with which it can speak."),
        _agent_wish,
        _make_agent,
    ),
    "packages": AgentAct(
        PolicyAct.PACKAGES,
        _kind("packages", "An agent asks to have packages installed in its container.", _told_unless_approved),
        _packages_wish,
        _install,
    ),
    "mount": AgentAct(
        PolicyAct.MOUNTS,
        _kind("mount", "An agent asks for a folder of this machine.", _told_unless_approved),
        _mount_wish,
        _mount,
    ),
}
"""What an agent may ask for, by the name of its kind of approval."""


def _allow_call(tx: Transaction, decision: ApprovalDecision) -> ApprovalOutcome:
    about = decision.approval.about
    until = None if decision.choice.value == CONVERSATION else to_text(from_text(tx.now) + GRANTED_FOR)
    call_grants.put(tx, str(about["session_id"]), str(about["call"]), until)
    return ApprovalOutcome("The agent goes on.")


CALL = ApprovalKind(
    "tool_call",
    "An agent asks before it calls a tool.",
    lambda connection, about: _CALLS,
    _allow_call,
    hidden=_HIDDEN,
    closed=_told,
)
