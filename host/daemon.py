"""The host process: take the folder, build the objects, run until it is told to stop."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import shlex
import shutil
import signal
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import perf_counter

from host import install
from host import log as logs
from host.api.server import ApiServer
from host.central import agent_groups, runs
from host.central.database import Central
from host.http_api.hook_sender import sending_hooks
from host.install import Answer
from host.lease import Lease
from host.lock import claimed, held
from host.operations import first_run, mount_verdicts, users
from host.operations.approvals import following_decisions
from host.operations.commands import carrying_out
from host.operations.containers import changing_containers
from host.operations.delegate import following_delegations
from host.operations.mounts import mount_troubles
from host.operations.nodes import watching_nodes
from host.operations.prune import clearing_away
from host.operations.requests import answering
from host.operations.schedules import scheduling
from host.runtime.choose import Choice
from host.service.notify import READY, STOPPING, tell
from host.services import Services, runtime_for, runtimes_of
from host.sessions.folder import Owner, make_data_folder, require_no_other_things
from host.settings import Settings, notify_socket
from host.standby import held_in_turn
from host.supervision.strays import ending_strays
from host.telemetry.tracing import tracing
from host.web.serving import serving_page
from shared_schema import collector
from shared_schema.clock import Clock, SystemClock
from shared_schema.signals import end_with

log = logging.getLogger(__name__)

_LOCK_SECONDS = 2.0
_THREADS = 32
_M_ARENA_MAX = -8  # of malloc.h


def run(settings: Settings, answer: Answer | None = None) -> int:
    """Run a host in the foreground until a signal ends it; the exit status. Raises `DumbwaiterError`.

    `answer` says what the data folder is, in case it is not where it was.
    """
    began = perf_counter()
    _bound_memory()
    _raise_descriptors()
    os.umask(0o077)
    layout = settings.layout
    install.require_own(layout)
    require_no_other_things(layout)
    make_data_folder(layout, Owner.of_agents(settings.agent_uid))
    logs.configure(settings.log_level, settings.log_format)
    if settings.shared:
        mount_verdicts.require_safe(layout)
        if not mount_verdicts.read(layout):
            line = mount_verdicts.check_line(layout, settings.nodes[0].name if settings.nodes else "NODE")
            log.warning("the mount of the data folder was not measured yet: type `%s`", line)
    if settings.standby:  # what must be asked is asked now, and not when it is to take over
        install.becomes_a_copy(install.standing(layout), answer, _command(settings.data, "run"))
    folder = held_in_turn(layout, _stand_by) if settings.standby else held(layout, wait_seconds=_LOCK_SECONDS)
    with folder as lease:
        install.require_own_content(layout)
        as_copy = install.becomes_a_copy(install.standing(layout), answer, _command(settings.data, "run"))
        asyncio.run(_run(settings, began, lease, as_copy=as_copy))
    return 0


def _stand_by() -> None:
    """Say that there is nothing to wait for: a service manager would take the host for one that does not start."""
    tell(notify_socket(), READY)
    for number in (signal.SIGINT, signal.SIGTERM):  # until the event loop takes them; nothing is to be put in order
        signal.signal(number, lambda *_: os._exit(0))


async def _run(settings: Settings, began: float, lease: Lease | None, *, as_copy: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, "blocking"))
    stop = asyncio.Event()
    end_with(loop, stop.set)
    clock = SystemClock()
    central = await asyncio.to_thread(partial(Central.open, settings.layout.central, clock, as_copy=as_copy))
    if lease is not None:
        central.require_sole = lease.require
    if as_copy:
        log.warning("this folder is a copy and an install of its own now", extra={"install": central.install_id})
        install.clear_copied(settings.layout)
    with claimed(central.install_id, settings.layout, wait_seconds=_LOCK_SECONDS):
        install.keep(settings.layout, central.install_id)
        await _serve(settings, began, clock, central, stop)


async def _serve(settings: Settings, began: float, clock: Clock, central: Central, stop: asyncio.Event) -> None:
    choice = await runtime_for(settings, central)
    if choice.warning is not None:
        _warn(choice.warning)
    earlier = await central.read(runs.unsettled_runtimes)
    services = Services(
        settings,
        clock,
        central,
        choice.runtime,
        choice.reason,
        others=runtimes_of(earlier - {choice.runtime.name}, settings, central.install_id),
    )
    try:
        await first_run.set_up(services)
        await _warn_of_mounts(services)
        await services.start()
        api = ApiServer(services)
        async with (
            carrying_out(services),
            answering(services),
            clearing_away(services),
            following_decisions(services),
            following_delegations(services),
            changing_containers(services),
            scheduling(services),
            sending_hooks(services),
            serving_page(services),
            watching_nodes(services),
            tracing(services),
            ending_strays(services.central, services.runtime),
        ):
            try:
                await api.start()
                collector.begin()
                _greet(services, choice, perf_counter() - began, await _owner_line(services))
                tell(notify_socket(), READY)
                await stop.wait()
                tell(notify_socket(), STOPPING)
                log.info("stopping", extra={"agents": len(services.supervisor.agents)})
            finally:
                await api.close()
    finally:
        await services.close(stop_agents=True)
    log.info("stopped")


async def _warn_of_mounts(services: Services) -> None:
    """Say which folders agents will not be able to use, before they find out."""
    owner, layout = Owner.of_agents(services.settings.agent_uid), services.settings.layout
    for group in await services.central.read(agent_groups.all_groups):
        for trouble in await asyncio.to_thread(mount_troubles, group, layout, owner):
            log.warning("%s: %s", trouble.what, trouble.hint)


def _bound_memory() -> None:
    """Let glibc keep two arenas of memory instead of eight for each core: with many threads they grow for hours."""
    with suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _raise_descriptors() -> None:
    """As many open files as the machine allows: each session with an agent has a gateway with connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _owner_line(services: Services) -> str | None:
    """How the first owner is claimed, while there is a channel to do it in and no owner."""
    if not services.running.names():  # the terminal alone; one that is still connecting counts
        return None
    offer = await users.claim_code(services)
    return None if offer["has_owner"] else str(offer["sentence"])


def _greet(services: Services, choice: Choice, seconds: float, owner: str | None) -> None:
    """Say where things are and what to type next: to a person as a page, to a log as a line."""
    data = services.settings.data
    following = f'{_command(data, "chat")} -m "hello"'
    if services.settings.log_format == "json" or not sys.stderr.isatty():
        facts = {"data": str(data), "runtime": services.runtime.name, "reason": choice.reason, "next": following}
        log.info("ready", extra=facts | {"adopted": services.adopted, "seconds": round(seconds, 2)})
        if owner is not None:
            log.info("this host has no owner yet", extra={"next": owner})
        return
    claim = "" if owner is None else f"\n  {owner}\n"
    page = services.page.address or _command(data, "web")
    text = f"""
  Dumbwaiter is ready.
  data      {data}
  runtime   {choice.reason}

  Next, in a second terminal:
    {following}
  or in the browser:
    {page}
{claim}
  Ctrl-C stops the host and its agents.
"""
    print(text, file=sys.stderr, flush=True)


def _command(data: Path, name: str) -> str:
    """How a command of this program is typed on this data folder, for the next one."""
    called, found = Path(sys.argv[0]), shutil.which("dumbwaiter")
    is_on_path = found is not None and called.is_file() and Path(found).samefile(called)
    command = "dumbwaiter" if is_on_path or not called.is_file() else shlex.quote(os.path.relpath(called))
    folder = "" if data == Path("data").absolute() else f" --data {shlex.quote(str(data))}"
    return f"{command}{folder} {name}"


def _warn(text: str) -> None:
    if not sys.stderr.isatty():
        log.warning(text)
    else:
        print(f"\x1b[1;31m{framed(text, shutil.get_terminal_size().columns)}\x1b[0m", file=sys.stderr, flush=True)


def framed(text: str, columns: int) -> str:
    """A warning between two bars that are as wide as its longest line, in a terminal of so many columns."""
    width = min(columns, 100)
    lines = textwrap.wrap(text, width, initial_indent="! ", subsequent_indent="! ", break_on_hyphens=False)
    bar = "!" * max(map(len, lines))
    return "\n".join((bar, *lines, bar))
