"""What a person can do about agent groups."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host.access.policies import PolicyAct, parsed, policy_of
from host.central import agent_groups as table
from host.central import audit, container_changes, sessions, tool_server_problems, usage
from host.central.agent_groups import AgentGroup
from host.central.database import Queryable, Transaction
from host.gateway.policy import parse_rule
from host.operations import containers, readiness
from host.operations.mounts import require_useful
from host.operations.push import push_to_agent_group, stop_agents
from host.operations.session_stop import delete
from host.runtime.mounts import MountRequest
from host.runtime.protocol import (
    LARGEST_CPUS,
    LARGEST_MEMORY,
    LARGEST_PIDS,
    MOST_GPUS,
    SMALLEST_CPUS,
    SMALLEST_MEMORY,
    SMALLEST_PIDS,
    GpuRuntime,
    RuntimeUnavailable,
    StartFailed,
)
from host.services import Services
from host.sessions.folder import Owner
from host.supervision.runs import image_of, plain_image_of
from shared_schema import asking, json_text
from shared_schema.clock import to_text
from shared_schema.errors import Conflict, InvalidValue, NotFound
from shared_schema.models import problem as model_problem
from shared_schema.providers import PROVIDERS, VARIANTS, WITH_MODELS
from shared_schema.tool_servers import stored

log = logging.getLogger(__name__)

# What `change` sets and `show` says as it is stored; lists and objects have a line of their own in `_shown`, `audited`.
_CHANGEABLE = (
    "provider", "model", "image", "memory_bytes", "cpus", "pids", "gpus", "budget_usd", "budget_tokens",
    "budget_period", "tool_servers",
    "save_memory", "schedules",
)  # fmt: skip
_UNSET: Mapping[str, str | None] = {
    **dict.fromkeys(
        ("model", "image", "memory_bytes", "cpus", "pids", "gpus", "budget_usd", "budget_tokens", "tool_servers",
         "save_memory")
    ),
    "fallbacks": "[]",
    "node_labels": "{}",
}  # fmt: skip
"""What can be put back, and the value of its column then."""
# A reference as engines take it: [host[:port]/]path[:tag][@digest], all small letters but host, tag and digest.
_IMAGE = re.compile(
    r"([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?"
)
_LONGEST_IMAGE = 512
_POLICIES = ("allow", "ask", "deny")
MOST_FALLBACKS = 5
"""Each is asked in a turn before it fails: a person waits for all of them."""
_PERIODS = ("day", "month", "total")


async def add(
    services: Services,
    *,
    name: str,
    provider: str | None = None,
    model: str | None = None,
    fallbacks: list[str] | None = None,
) -> dict[str, Any]:
    """Add an agent group; it says what it is. Raises `InvalidValue`, `Conflict`."""
    provider = _provider_for(provider, PROVIDERS[0], model)
    _require_model(provider, model)
    _require_fallbacks(provider, fallbacks or [])
    group = table.new_agent_group(
        name,
        created_at=to_text(services.clock.now()),
        provider=_known_provider(provider),
        model=model,
        fallbacks=fallbacks or [],
    )

    def store(tx: Transaction) -> None:
        table.insert(tx, group)
        audit.record(tx, "agent_group.add", name, after=audited(group))

    await services.central.write(store)
    return await show(services, name=name)


async def list_all(services: Services) -> list[dict[str, Any]]:
    """All agent groups, by name."""
    return await services.central.read(lambda c: [_shown(services, c, group) for group in table.all_groups(c)])


async def show(services: Services, *, name: str) -> dict[str, Any]:
    """One agent group, and what it lacks before it can answer (`lacking`, sentences). Raises `NotFound`."""
    shown = await services.central.read(lambda c: _shown(services, c, table.get_by_name(c, name)))
    return {**shown, "lacking": await readiness.lacking(services, name=name)}


async def change(
    services: Services,
    *,
    name: str,
    provider: str | None = None,
    model: str | None = None,
    fallbacks: list[str] | None = None,
    image: str | None = None,
    memory_bytes: int | None = None,
    cpus: float | None = None,
    pids: int | None = None,
    gpus: int | None = None,
    budget_usd: float | None = None,
    budget_tokens: int | None = None,
    budget_period: str | None = None,
    allow: list[str] | None = None,
    disallow: list[str] | None = None,
    tool_servers: str | None = None,
    save_memory: bool | None = None,
    schedules: str | None = None,
    add_mount: dict[str, Any] | None = None,
    remove_mount: str | None = None,
    policies: list[str] | None = None,
    ask_before: list[str] | None = None,
    no_ask_before: list[str] | None = None,
    node_labels: dict[str, str] | None = None,
    unset: list[str] | None = None,
    tools_revision: str | None = None,
) -> dict[str, Any]:
    """Change an agent group. Provider, models and tool servers take effect at the next turn.

    A budget does with the next message, what it may reach with the next request. The rest takes effect when its agents
    start again. With `tools_revision`, as `show` has it, nothing is changed where its tools are others by now.
    """
    if budget_period is not None and budget_period not in _PERIODS:
        raise InvalidValue(f"'{budget_period}' is no period of a budget", hint=f"use one of {', '.join(_PERIODS)}")
    if schedules is not None and schedules not in _POLICIES:
        raise InvalidValue(f"'{schedules}' is no policy", hint=f"use one of {', '.join(_POLICIES)}")
    given = {
        "provider": None if provider is None else _known_provider(provider),
        "model": model,
        "image": None if image is None else _reference(image),
        "memory_bytes": _within("memory", memory_bytes, SMALLEST_MEMORY, LARGEST_MEMORY, " bytes"),
        "cpus": _within("cpus", cpus, SMALLEST_CPUS, LARGEST_CPUS),
        "pids": _within("pids", pids, SMALLEST_PIDS, LARGEST_PIDS),
        "gpus": _within("gpus", gpus, 1, MOST_GPUS),
        "budget_usd": _positive("budget_usd", budget_usd),
        "budget_tokens": _positive("budget_tokens", budget_tokens),
        "budget_period": budget_period,
        "save_memory": None if save_memory is None else int(save_memory),
        "schedules": schedules,
        "tool_servers": None if tool_servers is None else stored(tool_servers),
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if fallbacks is not None:
        changes["fallbacks"] = json.dumps(fallbacks)
    if node_labels is not None:
        changes["node_labels"] = json.dumps(node_labels, sort_keys=True)
    for field in unset or []:
        if field not in _UNSET:
            raise InvalidValue(f"'{field}' cannot be unset", hint=f"one of {', '.join(_UNSET)} can")
        changes[field] = _UNSET[field]

    if gpus is not None:
        await _require_gpus(services, name, gpus, changes)

    def store(tx: Transaction) -> tuple[AgentGroup, AgentGroup]:
        group = before = table.get_by_name(tx, name)
        if tools_revision is not None and tools_revision != _tools_revision(group):
            raise Conflict("its tools were changed meanwhile", hint="load the page again, and make the change there")
        mounts = _with_mount(services, group.mount_requests, add_mount, remove_mount)
        answering = _provider_for(provider, group.provider, changes.get("model"))
        stays = group.model if answering != group.provider else None  # with another provider it has to fit anew
        _require_model(answering, changes.get("model", stays))
        _require_fallbacks(answering, fallbacks or [])
        group = dataclasses.replace(
            group,
            provider=answering,
            mounts=json.dumps(mounts),
            policies=json.dumps(_with_policies(group.policy_of_acts, policies or [])),
            ask_before=json.dumps(_with_rules(group.rules_to_ask, ask_before or [], no_ask_before or [])),
            allow=json.dumps(_with_hosts(group.allowed_hosts, allow or [], disallow or [])),
            **{field: value for field, value in changes.items() if field != "provider"},
        )
        if answering == PROVIDERS[0]:  # it repeats what is said: a model that stayed would be shown, and answer nothing
            group = dataclasses.replace(group, model=None)
        table.update(tx, group)
        audit.record(tx, "agent_group.set", name, before=audited(before), after=audited(group))
        if plain_image_of(group, services.settings) != plain_image_of(before, services.settings):
            containers.renew(tx, group)  # its packages are built on the other image, and it has that one until then
            container_changes.set_layer(tx, group.id, None, None)
        if group.tool_servers != before.tool_servers:
            tool_server_problems.forget(tx, group.id)
        return before, group

    before, group = await services.central.write(store)
    await push_to_agent_group(services, group.id)
    moves = before.node_labels != group.node_labels
    if moves or plain_image_of(before, services.settings) != plain_image_of(group, services.settings):
        await stop_agents(services, group.id)
    return await show(services, name=name)


async def rename(services: Services, *, name: str, new_name: str) -> dict[str, Any]:
    """Give an agent group another name; its workspace folder keeps the old one. Raises `NotFound`, `Conflict`."""

    def store(tx: Transaction) -> str:
        group = table.get_by_name(tx, name)
        table.rename(tx, group.id, new_name)
        usage.rename_agent_group(tx, group.id, new_name)
        audit.record(tx, "agent_group.rename", name, before={"name": name}, after={"name": new_name})
        return group.id

    await push_to_agent_group(services, await services.central.write(store))
    return await show(services, name=new_name)


async def remove(services: Services, *, name: str, with_sessions: bool = False) -> dict[str, Any]:
    """Remove an agent group; its sessions only when that is asked for. Its workspace stays on disk."""
    group = await services.central.read(table.get_by_name, name)
    owned = await services.central.read(sessions.of_agent_group, group.id)
    if owned and not with_sessions:
        many = f"{len(owned)} session{'s' if len(owned) > 1 else ''}"
        raise Conflict(f"'{name}' has {many}", hint="`--with-sessions` deletes what they hold as well")
    for session_id in owned:
        await delete(services, session=session_id, for_good=True)

    def drop(tx: Transaction) -> None:
        if sessions.of_agent_group(tx, group.id):
            raise Conflict(f"'{name}' has got a new session meanwhile", hint="unwire it first, then try again")
        table.delete(tx, group.id)
        audit.record(tx, "agent_group.remove", name, before=audited(group))

    await services.central.write(drop)
    return {"removed": name, "sessions": len(owned)}


def set_model(tx: Transaction, group: AgentGroup, model: str | None) -> AgentGroup:
    """Give an agent group another model, in the caller's transaction. Raises `InvalidValue` for one that cannot be."""
    provider = _provider_for(None, group.provider, model)
    _require_model(provider, model)
    return _changed(tx, group, dataclasses.replace(group, provider=provider, model=model))


def set_budget(tx: Transaction, group: AgentGroup, usd: float | None, tokens: int | None, period: str) -> AgentGroup:
    """Give an agent group another budget, in the caller's transaction; None: no limit. Raises `InvalidValue`."""
    changed = dataclasses.replace(
        group,
        budget_usd=_positive("budget_usd", usd),
        budget_tokens=None if tokens is None else int(_positive("budget_tokens", tokens) or 0),
        budget_period=period,
    )
    return _changed(tx, group, changed)


def _changed(tx: Transaction, before: AgentGroup, group: AgentGroup) -> AgentGroup:
    table.update(tx, group)
    audit.record(tx, "agent_group.set", group.name, before=audited(before), after=audited(group))
    return group


def audited(group: AgentGroup) -> dict[str, Any]:
    """What the audit log keeps of an agent group; of servers of tools their names: the rest may hold keys."""
    state = {field: getattr(group, field) for field in _CHANGEABLE if field != "tool_servers"}
    servers = sorted(json_text.parse(group.tool_servers)) if group.tool_servers else []
    return state | {
        "fallbacks": group.fallback_models,
        "mounts": group.mount_requests,
        "policies": {act: policy_of(group.policy_of_acts, act) for act in PolicyAct},
        "ask_before": group.rules_to_ask,
        "allow": group.allowed_hosts,
        "node_labels": group.wanted_labels,
        "tool_servers": servers,
    }


def _shown(services: Services, connection: Queryable, group: AgentGroup) -> dict[str, Any]:
    budget = usage.state(connection, group, to_text(services.clock.now())) if group.has_budget else None
    return {
        "id": group.id,
        "name": group.name,
        **{field: getattr(group, field) for field in _CHANGEABLE},
        "fallbacks": group.fallback_models,
        "budget_used": None
        if budget is None
        else {
            "usd": round(budget.used_usd, 6),
            "tokens": budget.used_tokens,
            "percent": round(100 * (budget.share or 0), 1),
        },
        "mounts": group.mount_requests,
        "policies": {act: policy_of(group.policy_of_acts, act) for act in PolicyAct},
        "ask_before": group.rules_to_ask,
        "tools_revision": _tools_revision(group),
        "allow": group.allowed_hosts,
        "node_labels": group.wanted_labels,
        "workspace": str(services.settings.layout.workspace(group.folder)),
        "sessions": sessions.count_of_agent_group(connection, group.id),
        "created_at": group.created_at,
    }


async def _require_gpus(services: Services, name: str, gpus: int, changes: dict[str, Any]) -> None:
    """An engine that will refuse them does so now. Raises `Conflict`; what cannot be known now shows at the start."""
    runtime = services.runtime
    if runtime.name == "process":
        raise Conflict(
            "agents are plain processes here (runtime = process): each sees every GPU of this machine, and none can be "
            "given or kept from it",
            hint='leave --gpus out, or run agents in containers: `runtime = "docker"` in dumbwaiter.toml',
        )
    if not isinstance(runtime, GpuRuntime):
        return
    group = await services.central.read(table.get_by_name, name)
    meant = dataclasses.replace(group, **changes)
    try:
        await runtime.require_gpus(gpus, image_of(meant, services.settings), meant.wanted_labels)
    except StartFailed as error:
        raise Conflict(error.what, hint=(error.own_hint or "").replace("set NAME", f"set {name}")) from error
    except RuntimeUnavailable as error:
        log.info("whether there are GPUs is not known now", extra={"agent_group": name, "error": str(error)})


def _with_hosts(hosts: list[str], allow: list[str], disallow: list[str]) -> list[str]:
    """The allow-list with some entries more or less. Raises `InvalidValue`, `NotFound`."""
    for entry in allow:
        parse_rule(entry)
    for entry in disallow:
        if entry.lower() not in hosts:
            raise NotFound(f"'{entry}' is not on the list", hint="`dumbwaiter agent-group show` shows what is")
    gone = {entry.lower() for entry in disallow}
    return sorted({*hosts, *(entry.strip().lower() for entry in allow)} - gone)


def _with_policies(policies: dict[str, str], said: list[str]) -> dict[str, str]:
    """The policies with those that were said. Raises `InvalidValue`."""
    return policies | {str(act): str(policy) for act, policy in map(parsed, said)}


def _with_rules(rules: list[str], more: list[str], fewer: list[str]) -> list[str]:
    """The rules with some more or less. Raises `InvalidValue`, `NotFound`."""
    for rule in more:
        if sentence := asking.problem(rule):
            raise InvalidValue(sentence)
    for rule in fewer:
        if rule not in rules:
            raise NotFound(f"'{rule}' is no rule of this agent", hint="`dumbwaiter agent-group show` shows them")
    found = [rule for rule in dict.fromkeys([*rules, *(each.strip() for each in more)]) if rule not in fewer]
    if len(found) > asking.MOST_RULES:
        raise InvalidValue(f"an agent group can have {asking.MOST_RULES} rules, not {len(found)}")
    return found


def _known_provider(provider: str) -> str:
    if provider not in PROVIDERS:
        raise InvalidValue(f"there is no provider '{provider}'", hint=f"use one of {', '.join(PROVIDERS)}")
    return provider


def _provider_for(wanted: str | None, current: str, model: str | None) -> str:
    """The provider that answers with that model: the one that is wanted, else the one there is.

    A model by itself moves an agent that only echoes to `model`. Raises `InvalidValue` for `echo` with a model.
    """
    if model is None or (wanted or current) != PROVIDERS[0]:
        return wanted or current
    if wanted is not None:
        raise InvalidValue(f"the provider {wanted} has no models", hint="`--provider model` answers with one")
    return WITH_MODELS


def _require_model(provider: str, model: str | None) -> None:
    if model is not None and (sentence := model_problem(provider, model)):
        raise InvalidValue(sentence, hint="`--model` sets one, and docs/providers.md lists them")


def _require_fallbacks(provider: str, models: list[str]) -> None:
    """Raises `InvalidValue` for a list of models that cannot be."""
    if models and provider not in VARIANTS:
        raise InvalidValue(f"the provider {provider} has no models to fall back on")
    if len(models) > MOST_FALLBACKS:
        raise InvalidValue(f"an agent group can have {MOST_FALLBACKS} models to fall back on, not {len(models)}")
    for each in models:
        _require_model(provider, each)


def _positive(name: str, value: float | None) -> float | None:
    if value is not None and value <= 0:
        raise InvalidValue(f"{name} must be more than 0, not {value}")
    return value


def _within(name: str, value: float | None, least: float, most: float, unit: str = "") -> float | None:
    """A limit that an engine takes: it would refuse any other when the agent is started, which is too late."""
    if value is not None and not least <= value <= most:
        raise InvalidValue(f"{name} must be between {least:,}{unit} and {most:,}{unit}, not {value:,}")
    return value


def _reference(image: str) -> str:
    if len(image) > _LONGEST_IMAGE or _IMAGE.fullmatch(image) is None:
        raise InvalidValue(
            f"'{image[:100]}' is not the name of an image", hint="write such as name:tag, in small letters"
        )
    return image


def _with_mount(
    services: Services, mounts: list[dict[str, Any]], add_mount: dict[str, Any] | None, remove_mount: str | None
) -> list[dict[str, Any]]:
    if remove_mount is not None:
        kept = [mount for mount in mounts if mount["name"] != remove_mount]
        if len(kept) == len(mounts):
            names = ", ".join(mount["name"] for mount in mounts)
            raise NotFound(
                f"there is no mount '{remove_mount}'", hint=f"there is {names}" if names else "there is none"
            )
        mounts = kept
    if add_mount is not None:
        mount: dict[str, Any] = {
            "path": str(add_mount.get("path", "")),
            "name": str(add_mount.get("name", "")),
            "writable": add_mount.get("writable") is True,
        }
        request = MountRequest(Path(mount["path"]), mount["name"], mount["writable"])
        require_useful(request, services.settings.layout, Owner.of_agents(services.settings.agent_uid))
        mounts = [*(m for m in mounts if m["name"] != mount["name"]), mount]
    return mounts


def _tools_revision(group: AgentGroup) -> str:
    """Tells one state of an agent's servers, of what it must ask before and of what it may ask for, from another."""
    state = json.dumps([group.tool_servers, group.rules_to_ask, group.policy_of_acts], sort_keys=True)
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()[:16]
