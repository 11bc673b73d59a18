"""What `dumbwaiter doctor` checks. Nothing is changed: probe files are taken away again, and no agent is started.

A check is `ok` (True), wrong (False: the host cannot do its work), or a warning (None: it can, and a person should
know). Every check that is not ok says what to do.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.central import agent_groups, rate_limits, tool_server_problems
from host.central.database import CENTRAL
from host.central.upgrade import too_new
from host.channels.build import trouble_of
from host.channels.health import ChannelStatus
from host.gateway import proxies
from host.gateway.upstreams import configure, doubts, read_file
from host.lock import is_held
from host.operations import users
from host.operations.cluster_checks import check_cluster
from host.operations.folder_checks import check_install, check_mount, check_owner, check_privacy
from host.operations.mounts import mount_troubles
from host.operations.node_checks import check_nodes, check_where, uses_nodes
from host.operations.status import file_sizes, status
from host.operations.system_checks import (
    Check,
    check_folder,
    check_interpreter,
    check_links,
    check_notifications,
    check_space,
    check_sqlite,
)
from host.runtime.engine_facts import require_suitable
from host.runtime.image_names import how_to_build
from host.runtime.images import DOCKERFILE, ImageStanding, standing
from host.runtime.podman import NO_LIMITS
from host.runtime.process_user import ProcessUsers, trouble_as_root
from host.runtime.protocol import RuntimeUnavailable, StartFailed
from host.runtime.sources import SOURCE_ROOT
from host.services import Services
from host.sessions.folder import Owner
from host.settings import BadSetting, Settings, engine_address, proxy_variables, vendor_variables
from host.start_line import start_line
from host.supervision.runs import image_of
from host.telemetry.tracing import OtelExtraMissing, open_collector
from shared_schema.clock import SystemClock, to_text
from shared_schema.database import reader
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import DataLayout
from shared_schema.migrate import version_of

if TYPE_CHECKING:
    from host.runtime.docker import DockerRuntime

_LARGE = 4 * 1024**3
"""Bytes of the host's own files that are worth a word: queries of an hour's work take noticeably longer."""
_SHOWN = 5

AskHost = Callable[[], dict[str, Any] | None]
"""What the running host says of itself (`status`: `host`, with `faults`, `agents` and the like), None when none runs.

Raises `DumbwaiterError`.
"""


async def examine_running(services: Services) -> list[dict[str, Any]]:
    """The checks as the running host sees them, with its settings, its environment and the runtime it took."""
    found = await status(services)
    told = ("faults", "repairs", "channels", "agents", "waits_for_nodes")
    host = {**found["host"], **{name: found[name] for name in told}}
    checks = await examine(services.settings.data, services.settings, lambda: host)
    checks += await check_owner_of_bots(services)
    return [asdict(check) for check in checks]


async def examine(data: Path, settings: Settings | BadSetting, ask_host: AskHost) -> list[Check]:
    """All checks, in the order in which to mend what is wrong. With bad settings, those that need none."""
    layout = DataLayout(data)
    checks = [check_settings(layout, settings), check_interpreter(), check_sqlite(), check_folder(data)]
    if data.is_dir():
        checks += [check_owner(layout), check_privacy(layout), check_install(layout)]
        checks += [check_space(data), check_links(data), check_registry(layout), check_files(layout)]
        checks += check_tool_servers(layout)
    checks += [check_host(layout, ask_host), *check_sessions(ask_host)]
    with suppress(DumbwaiterError):  # said by `check_host`
        checks += check_where(ask_host())
    if isinstance(settings, Settings):
        checks += await asyncio.to_thread(check_mount, settings) if data.is_dir() else []
        checks += [check_notifications(settings), *check_upstreams(settings), *check_proxies()]
        checks += await asyncio.to_thread(check_telemetry, settings)
        checks += await asyncio.to_thread(check_channels, settings, ask_host)
        checks += [*await check_runtime(settings), *check_mounts(settings)]
    return checks


async def check_owner_of_bots(services: Services) -> list[Check]:
    """Check that a person on a platform is the owner; the code for it when there is none. Nothing without a channel."""
    if not services.running.names():  # the terminal alone; one that is still connecting counts
        return []
    offer = await users.claim_code(services)
    if offer["has_owner"]:
        return [Check("owner", True, "a person on a platform is the owner of this host")]
    return [Check("owner", None, "no person on a platform is the owner of this host yet", users.claim_sentence(offer))]


def check_settings(layout: DataLayout, settings: Settings | BadSetting) -> Check:
    """Whether the settings can be read."""
    if isinstance(settings, BadSetting):
        return _failed("settings", settings)
    changed = sorted(settings.model_fields_set - {"data"})
    source = f"{layout.settings.name} is there" if layout.settings.exists() else "no dumbwaiter.toml"
    return Check("settings", True, f"{source}; set: {', '.join(changed) or 'nothing, all defaults'}")


def check_telemetry(settings: Settings) -> list[Check]:
    """Whether the collector takes traces, where one is set. Blocks for five seconds at most."""
    endpoint = settings.telemetry.endpoint
    if endpoint is None:
        return []
    try:
        collector = open_collector(settings.telemetry)
    except OtelExtraMissing as error:
        return [Check("telemetry", None, f"{error.what}: no traces are made", error.hint)]
    if collector.send(()):
        return [Check("telemetry", True, f"the collector at {endpoint} takes traces")]
    hint = f"start it, or take `endpoint` away below [telemetry] in {settings.layout.settings.name}"
    return [Check("telemetry", None, f"the collector at {endpoint} does not take traces; messages go on", hint)]


def check_upstreams(settings: Settings) -> list[Check]:
    """Which model services have a key, and where they are if that is not the vendor's own place."""
    try:
        upstreams = configure(settings.upstreams, read_file(settings.layout.upstreams), vendor_variables())
    except DumbwaiterError as error:
        return [_failed("model services", error)]
    ready = [
        name + (f" ({len(upstream.keys)} keys)" if upstream.keys else "")
        for name, upstream in upstreams.items()
        if upstream.key is not None
    ]
    moved = [f"{each.name} is at {each.url} ({each.url_from})" for each in upstreams.values() if each.url_from]
    if ready or moved:
        checks = [Check("model services", True, "; ".join([*_with_key(ready), *moved]))]
    else:
        checks = [
            Check(
                "model services",
                None,
                "none has a key; Ollama and the agent echo need none",
                "`dumbwaiter init` asks for one, and keeps it private",
            )
        ]
    for upstream in upstreams.values():
        if sentence := doubts(upstream):
            checks.append(Check("model services", None, sentence, f"set upstreams.{upstream.name}.url"))
    return checks


def check_proxies() -> list[Check]:
    """Through which proxies the gateway goes, and which it cannot use."""
    found = proxies.configure(proxy_variables())
    checks = [Check("proxy", True, ", ".join(found.used))] if found.used else []
    hint = "model calls and allowed hosts are connected to directly, or set a proxy of the form http://HOST:PORT"
    return checks + [Check("proxy", None, problem, hint) for problem in found.problems]


def _with_key(ready: list[str]) -> list[str]:
    return [f"with a key: {', '.join(ready)}"] if ready else []


def check_registry(layout: DataLayout) -> Check:
    """Whether central.db can be read and is not from a newer version."""
    if not layout.central.exists():
        return Check("registry", None, "central.db is not there yet", "the first start of the host makes it")
    try:
        with reader(layout.central) as connection:
            version = version_of(connection)
    except DumbwaiterError as error:
        return _failed("registry", error)
    if version > CENTRAL.version:
        return _failed("registry", too_new(version, layout.central, CENTRAL))
    older = "; the next start keeps it in backups/ and brings it up to date" if version < CENTRAL.version else ""
    return Check("registry", True, f"central.db has schema version {version}{older}")


def check_files(layout: DataLayout) -> Check:
    """How large the host's own files are, and whether a limit holds something back at the moment."""
    sizes = file_sizes(layout)
    shown = ", ".join(f"{name} {size / 1024**2:,.0f} MiB" for name, size in sizes.items())
    struck: list[str] = []
    if layout.central.exists():
        with suppress(DumbwaiterError), reader(layout.central) as connection:
            if version_of(connection) == CENTRAL.version:
                now = to_text(SystemClock().now())
                struck = [f"{row['act']} ({row['subject']})" for row in rate_limits.struck(connection, now)]
    if struck:
        what = f"{shown}; limits held something back: {', '.join(struck[:3])}"
        return Check(
            "files", None, what, "`dumbwaiter status` lists them, `dumbwaiter session show S` says what was refused"
        )
    if sum(sizes.values()) > _LARGE:
        return Check("files", None, shown, "`dumbwaiter session prune --older-than 90d` removes what ended long ago")
    return Check("files", True, shown)


def check_tool_servers(layout: DataLayout) -> list[Check]:
    """Which MCP servers agents could not use when they tried last."""
    try:
        if not layout.central.exists():
            return []
        with reader(layout.central) as connection:
            problems = tool_server_problems.open_problems(connection) if version_of(connection) >= 6 else []
    except DumbwaiterError:  # the check of the registry says so
        return []
    return [
        Check(
            "tool servers",
            None,
            f"{each['server']} of {each['agent_group']}: {each['problem']}",
            f"mend it, or set others with `dumbwaiter agent-group set {each['agent_group']} --tool-servers FILE`",
        )
        for each in problems
    ]


def check_host(layout: DataLayout, ask_host: AskHost) -> Check:
    """Whether a host runs on this data folder and answers."""
    try:
        host = ask_host()
    except DumbwaiterError as error:
        return _failed("host", error)
    if host is None:
        if is_held(layout):
            what = f"some process holds {layout.lock}, and no host answers"
            return Check(
                "host",
                None,
                what,
                f"wait until it has started or ended, or look what it is: `fuser {shlex.quote(str(layout.lock))}`",
            )
        return Check("host", None, "not running", f"start it with {start_line(layout.data)}")
    since = f" since {host['since']}" if host.get("since") else ""
    reason = host.get("runtime_reason") or host.get("runtime")
    isolated = None if host.get("runtime") == "process" else True
    hint = None if isolated else "for isolation start docker, then start the host again"
    return Check("host", isolated, f"process {host.get('pid')} runs{since}; agents in {reason}", hint)


def check_sessions(ask_host: AskHost) -> list[Check]:
    """Whether the running host can look after all sessions, and whether one of their files had lost something."""
    try:
        host = ask_host()
    except DumbwaiterError:  # said by `check_host`
        return []
    if host is None:
        return []
    checks = []
    faults: list[dict[str, Any]] = host.get("faults") or []
    for fault in faults[:_SHOWN]:
        what = f"{fault['session_id']} cannot be looked after since {fault['since']}: {fault['what']}"
        hint = "mend what it names; the host tries again by itself, and `dumbwaiter status` says when it is over"
        checks.append(Check("sessions", False, what, hint))
    if len(faults) > _SHOWN:
        checks.append(Check("sessions", False, f"and {len(faults) - _SHOWN} more", "see `dumbwaiter status`"))
    repairs: list[dict[str, Any]] = host.get("repairs") or []
    if repairs:
        last = repairs[0]
        what = f"{last['session_id']} had lost something ({last['at']}): {last['what']}"
        hint = "after a restored backup that is as it should be; else look after the disk, and see `dumbwaiter status`"
        checks.append(Check("files", None, what, hint))
    return checks or [Check("sessions", True, "all of them can be looked after")]


def check_channels(settings: Settings, ask_host: AskHost) -> list[Check]:
    """Whether each channel is connected; without a host, whether it could be. Blocks."""
    host: dict[str, Any] | None = None
    with suppress(DumbwaiterError):  # said by `check_host`
        host = ask_host()
    if host is not None:
        return [_channel(state) for state in host.get("channels") or []]
    checks = []
    for name, table in settings.channels.items():
        trouble = trouble_of(name, table, SystemClock())
        if trouble is not None:
            checks.append(Check("channel", False, f"{name}: {trouble.what}", trouble.hint))
        else:
            what = f"{name}: it can be made; `dumbwaiter channel check {name}` asks its platform"
            checks.append(Check("channel", True, what))
    return checks


def _channel(state: dict[str, Any]) -> Check:
    """What a running host says of one of its channels."""
    what = f"{state['name']} is {state['state']} since {state['since']}"
    if state["state"] == ChannelStatus.CONNECTED:
        again = f", connected anew {state['reconnects']} times" if state["reconnects"] else ""
        return Check("channel", True, f"{what}{again}")
    hint = (
        state["hint"] or f"the host tries again by itself; `dumbwaiter channel check {state['name']}` asks its platform"
    )
    ok = False if state["state"] == ChannelStatus.REFUSED else None
    return Check("channel", ok, what if state["reason"] is None else f"{what}: {state['reason']}", hint)


async def check_runtime(settings: Settings) -> list[Check]:
    """Whether agents can be started: the engine and the image, as far as the settings want them."""
    if settings.runtime == "process":
        engine = Check("engine", None, "not used: runtime = process, WITHOUT ISOLATION", "use docker where you can")
        return [engine, *check_agent_user(settings)]
    if uses_nodes(settings):
        return await check_nodes(settings)
    if settings.runtime == "kubernetes":
        return await check_cluster(settings)

    from host.runtime.docker import DockerRuntime  # takes 150 ms

    address = engine_address(settings)
    docker = DockerRuntime("ins_0000000000000000", address)  # starts nothing, so the id is never used
    try:
        facts = await docker.facts()
        require_suitable(facts, settings.oci_runtime)
        return [
            Check("engine", True, f"{facts} answers at {address}"),
            *(await _of_podman(docker, settings) if facts.product == "podman" else []),
            *([] if facts.keeps_limits else [Check("limits", None, *NO_LIMITS.split("; "))]),
            *[
                _image(settings, image, await standing(docker, image, SOURCE_ROOT))
                for image in await asyncio.to_thread(_images_in_use, settings)
            ],
        ]
    except RuntimeUnavailable as error:
        if settings.runtime == "docker":
            return [_failed("engine", error)]
        where = "" if error.where is None else f" ({error.where})"
        what = f"{error.what}{where}; agents run as plain processes, WITHOUT ISOLATION"
        engine = Check(
            "engine",
            None,
            what,
            f"{error.hint or 'see what the engine says'}; or accept that, and set runtime = process",
        )
        return [engine, *check_agent_user(settings)]
    finally:
        await docker.close()


async def _of_podman(podman: DockerRuntime, settings: Settings) -> list[Check]:
    """What it lacks of what docker brings along: found by a container that is made and not started."""
    if await podman.image_id(settings.image) is None:
        return []
    try:
        await podman.try_container(settings.image)
    except StartFailed as error:
        return [_failed("podman", error)]
    return [Check("podman", True, "it has what agents need")]


def check_agent_user(settings: Settings) -> list[Check]:
    """For a host that is root: whether agents without a container can have a user of their own."""
    if os.geteuid() != 0:
        return []
    uid = settings.agent_uid
    trouble = trouble_as_root(SOURCE_ROOT, uid, [settings.layout.data] if settings.layout.data.is_dir() else [])
    if trouble is not None:
        return [Check("agent user", None, trouble.what, trouble.hint)]
    found = ProcessUsers(SOURCE_ROOT).interpreter(uid, uid, ())
    program = "" if found is None else found.program
    return [Check("agent user", True, f"agents run as uid {uid} with {program}")]


def check_mounts(settings: Settings) -> list[Check]:
    """Whether agents may do in the folders of their groups what these ask for."""
    owner = Owner.of_agents(settings.agent_uid)
    found = [trouble for group in _groups(settings) for trouble in mount_troubles(group, settings.layout, owner)]
    return [Check("mounts", None, trouble.what, trouble.hint) for trouble in found]


def _groups(settings: Settings) -> list[agent_groups.AgentGroup]:
    """The agent groups, as far as the registry can be read."""
    if settings.layout.central.exists():
        with suppress(DumbwaiterError), reader(settings.layout.central) as connection:
            if version_of(connection) == CENTRAL.version:
                return agent_groups.all_groups(connection)
    return []


def _images_in_use(settings: Settings) -> list[str]:
    """The image that is set, and those that the agent groups need."""
    return list({settings.image: None} | dict.fromkeys(image_of(group, settings) for group in _groups(settings)))


def _image(settings: Settings, image: str, stands: ImageStanding) -> Check:
    if stands is ImageStanding.PRESENT:
        return Check("image", True, f"{image} is there")
    if stands is ImageStanding.OLD:
        return Check("image", None, f"{image} {stands}", "start the host again: it builds it anew")
    if image != settings.image:
        return Check("image", False, f"{image} is missing, which an agent group needs", how_to_build(image))
    if (SOURCE_ROOT / DOCKERFILE).is_file():
        return Check(
            "image", None, f"{image} is missing; the host builds it when it starts", f"or {how_to_build(image)}"
        )
    ok = False if settings.runtime == "docker" else None
    return Check("image", ok, f"{image} is missing", how_to_build(image))


def _failed(name: str, error: DumbwaiterError) -> Check:
    where = "" if error.where is None else f" ({error.where})"
    return Check(name, False, f"{error.what}{where}", error.hint)
