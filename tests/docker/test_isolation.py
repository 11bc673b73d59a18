"""What an agent in a container cannot do, tried from the inside of a real one with the real specification.

The gateway is in place in all of them, with a key. What it lets through, and that no key is in reach, is in
`tests/gateway`.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from host.gateway.grant import Grant
from host.gateway.upstreams import Upstream, UpstreamKind
from host.runtime.docker import DockerRuntime
from host.runtime.protocol import ResourceLimits
from tests.gateway import inside
from tests.gateway.world import CANARY, GROUP, open_to_container
from tests.runtime.agents import UID, eventually, session_folder, specification

pytestmark = pytest.mark.docker

Attempt = Callable[..., Coroutine[Any, Any, Any]]

AROUND = """
import errno, json, os, socket, subprocess, sys

def refusal(function, *arguments, **options):
    \"\"\"The name of the error a call ends with; None when it succeeds.\"\"\"
    try:
        function(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))

def attempt():
{body}

print("result " + json.dumps(attempt()), flush=True)
"""


@pytest.fixture
def attempt(docker_runtime: DockerRuntime, script_image: str, tmp_path: Path) -> Attempt:
    """Runs the body of a function in a container of its own; what the function returns there."""

    upstream = Upstream("anthropic", "http://127.0.0.1:9", SecretStr(CANARY), UpstreamKind.ANTHROPIC)
    grant = Grant(GROUP, upstreams={"anthropic": upstream})

    async def run(body: str, *, limits: ResourceLimits | None = None) -> Any:
        program = AROUND.format(body=textwrap.indent(textwrap.dedent(body), "    "))
        layout = session_folder(tmp_path, "")
        (layout.folder / "agent.py").write_text(program)
        layout.inbound.write_bytes(b"the host's")
        layout.inbound.chmod(0o666)  # the mount alone protects it, not the mode
        shutil.copy(inside.__file__, layout.folder)
        (layout.folder / "inside.py").chmod(0o644)
        agent = specification(layout, docker_runtime.install_id, image=script_image, uid=UID, limits=limits)
        async with open_to_container(layout, grant, refused=lambda *told: None):
            handle = await docker_runtime.start(agent)

            async def ended() -> bool:
                return not (await docker_runtime.poll(handle)).alive

            await eventually(ended, limit=60)
        output = (await docker_runtime.logs(handle)).decode()
        results = [line.removeprefix("result ") for line in output.splitlines() if line.startswith("result ")]
        assert results, output
        return json.loads(results[-1])

    return run


async def test_inbound_db_cannot_be_written(attempt: Attempt) -> None:
    assert await attempt('return refusal(open, "/session/inbound.db", "r+b")') == "EROFS"


async def test_inbound_db_can_be_read(attempt: Attempt) -> None:
    assert await attempt('return open("/session/inbound.db").read()') == "the host's"


async def test_nothing_can_be_made_or_removed_beside_inbound_db(attempt: Attempt) -> None:
    made = await attempt("""
        return [
            refusal(open, "/session/inbound.db-journal", "w"),
            refusal(os.symlink, "/etc/passwd", "/session/link"),
            refusal(os.unlink, "/session/inbound.db"),
            refusal(os.rename, "/session/out", "/session/in"),
        ]
    """)
    assert set(made) <= {"EROFS", "EBUSY"}


async def test_out_and_the_workspace_can_be_written(attempt: Attempt) -> None:
    body = """
        for folder in ("/session/out", "/workspace", "/tmp"):
            with open(folder + "/file", "w") as file:
                file.write("x")
        return [os.environ["DUMBWAITER_SESSION"], os.environ["DUMBWAITER_WORKSPACE"], os.environ["HOME"], os.getcwd()]
    """
    assert await attempt(body) == ["/session", "/workspace", "/tmp", "/workspace"]


async def test_no_other_session_can_be_seen(attempt: Attempt, tmp_path: Path) -> None:
    neighbour = session_folder(tmp_path, "").folder
    body = f"""
        places = ["{neighbour}", "/session/../{neighbour.name}", "/session/out/../../{neighbour.name}"]
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
        of_the_engine = ("/proc", "/sys", "/dev", "/etc", "/sbin", "/usr")
        return [
            [refusal(os.listdir, place) for place in places],
            sorted(mount for mount in mounts if not mount.startswith(of_the_engine)),
        ]
    """
    refusals, mounts = await attempt(body)
    assert refusals == ["ENOENT"] * 3
    assert mounts == ["/", "/session", "/session/out", "/tmp", "/workspace"]


async def test_the_network_cannot_be_reached(attempt: Attempt) -> None:
    refusals = await attempt("""
        def connect(address):
            with socket.socket() as connection:
                connection.settimeout(5)
                connection.connect(address)
        return [refusal(connect, (host, 80)) for host in ("1.1.1.1", "172.17.0.1", "169.254.169.254")]
    """)
    assert refusals == ["ENETUNREACH"] * 3


async def test_the_gateway_is_the_only_socket_and_lets_nobody_out_who_is_not_listed(
    attempt: Attempt, tmp_path: Path
) -> None:
    """A read-only mount does not close it, and that of another session is nowhere."""
    neighbour = session_folder(tmp_path, "")
    tmp_path.chmod(0o755)  # the mounts alone protect it, not the mode
    body = f"""
        import inside
        other = refusal(os.stat, "{neighbour.gateway}")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect("/session/gateway.sock")
            connection.sendall(b"CONNECT example.com:443 HTTP/1.1\\r\\nHost: example.com:443\\r\\n\\r\\n")
            return [other, inside.sockets(), connection.recv(12).decode()]
    """
    async with open_to_container(neighbour, Grant(GROUP), refused=lambda *told: None):
        assert await attempt(body) == ["ENOENT", ["/session/gateway.sock"], "HTTP/1.1 403"]


async def test_names_cannot_be_resolved(attempt: Attempt) -> None:
    assert await attempt('return refusal(socket.getaddrinfo, "example.com", 443)') is not None


async def test_there_is_no_interface_but_the_loopback(attempt: Attempt) -> None:
    assert await attempt("return [name for _, name in socket.if_nameindex()]") == ["lo"]


async def test_it_runs_as_a_user_without_rights(attempt: Attempt) -> None:
    body = "return [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]"
    uid, effective, gid, groups = await attempt(body)
    assert (uid, effective, gid) == (UID, UID, UID)
    assert 0 not in groups


async def test_it_has_no_capability_and_gets_no_new_privilege(attempt: Attempt) -> None:
    status = await attempt("""
        lines = (line.split() for line in open("/proc/self/status"))
        return {line[0]: line[1] for line in lines if line[0].startswith(("Cap", "NoNewPrivs", "Seccomp:"))}
    """)
    assert {status[name] for name in ("CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:")} == {"0" * 16}
    assert status["NoNewPrivs:"] == "1"
    assert status["Seccomp:"] == "2"


async def test_a_setuid_program_gains_nothing(attempt: Attempt) -> None:
    body = """
        program = "/usr/local/bin/setuid-id"
        assert os.stat(program).st_mode & 0o4000 and os.stat(program).st_uid == 0
        return int(subprocess.check_output([program, "-u"]))
    """
    assert await attempt(body) == UID


async def test_files_cannot_be_given_away_and_root_cannot_be_become(attempt: Attempt) -> None:
    refusals = await attempt("""
        open("/session/out/file", "w").close()
        return [refusal(os.chown, "/session/out/file", 0, 0), refusal(os.setuid, 0), refusal(os.setgroups, [0])]
    """)
    assert refusals == ["EPERM"] * 3


async def test_devices_and_mounts_cannot_be_made(attempt: Attempt) -> None:
    refusals = await attempt("""
        import ctypes, stat
        libc = ctypes.CDLL(None, use_errno=True)
        mounted = libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)
        return [refusal(os.mknod, "/tmp/disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)), mounted]
    """)
    assert refusals == ["EPERM", -1]


async def test_the_root_file_system_cannot_be_written(attempt: Attempt) -> None:
    refusals = await attempt("""
        places = ("/file", "/app/container_agent/loop.py", "/etc/passwd", "/usr/bin/file", "/var/tmp/file")
        return [refusal(open, place, "a") for place in places]
    """)
    assert set(refusals) <= {"EROFS", "EACCES"}
    assert refusals[0] == refusals[4] == "EROFS"  # even where its user could


async def test_no_more_processes_than_the_limit_can_be_started(attempt: Attempt) -> None:
    body = """
        children = []
        while len(children) < 100:
            try:
                child = os.fork()
            except OSError as error:
                return [len(children), errno.errorcode[error.errno]]
            if child == 0:
                import signal
                signal.pause()
            children.append(child)
        return [len(children), None]
    """
    started, refusal = await attempt(body, limits=ResourceLimits(pids=20))
    assert refusal == "EAGAIN"
    assert started < 20


async def test_no_file_can_grow_beyond_the_limit(attempt: Attempt) -> None:
    body = """
        with open("/session/out/file", "wb", buffering=0) as file:
            refused = refusal(lambda: [file.write(bytes(500_000)) for _ in range(10)])
        return [refused, os.stat("/session/out/file").st_size]
    """
    assert await attempt(body, limits=ResourceLimits(file_bytes=1_000_000)) == ["EFBIG", 1_000_000]


async def test_the_limit_of_a_file_cannot_be_raised(attempt: Attempt) -> None:
    body = """
        import resource
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        except ValueError:  # Python's word for EPERM
            return "refused"
    """
    assert await attempt(body) == "refused"


async def test_tmp_is_bounded(attempt: Attempt) -> None:
    body = """
        with open("/tmp/file", "wb", buffering=0) as file:
            return refusal(lambda: [file.write(bytes(500_000)) for _ in range(10)])
    """
    assert await attempt(body, limits=ResourceLimits(tmp_bytes=1024 * 1024)) == "ENOSPC"


async def test_an_init_is_process_1_and_takes_care_of_orphans(attempt: Attempt) -> None:
    body = """
        import time
        reader, writer = os.pipe()
        if os.fork() == 0:
            if os.fork() == 0:
                os.write(writer, str(os.getpid()).encode())
                os._exit(0)
            os._exit(0)
        os.wait()
        orphan = int(os.read(reader, 20))
        end = time.monotonic() + 10
        while os.path.exists(f"/proc/{orphan}") and time.monotonic() < end:
            os.sched_yield()
        return [open("/proc/1/comm").read().strip(), os.path.exists(f"/proc/{orphan}")]
    """
    name, is_zombie = await attempt(body)
    assert "init" in name
    assert not is_zombie


async def test_nothing_of_the_hosts_environment_is_inside(attempt: Attempt) -> None:
    names = set(await attempt("return sorted(os.environ)"))
    expected = {"GREETING", "DUMBWAITER_SESSION", "DUMBWAITER_WORKSPACE", "HOME", "USER", "LOGNAME"}
    of_the_image = {"PATH", "HOSTNAME", "LANG", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    of_the_base = {"GPG_KEY", "PYTHON_VERSION", "PYTHON_SHA256", "PYTHON_PIP_VERSION", "PYTHON_GET_PIP_URL"}
    assert expected <= names
    assert names <= expected | of_the_image | of_the_base | {"PYTHON_SETUPTOOLS_VERSION", "PYTHON_GET_PIP_SHA256"}
