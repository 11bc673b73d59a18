"""Whether a cluster can run agents: the rights of this host, its volumes, and a pod that looks around.

The pod of a probe is one of an agent in all that an agent cannot choose: so what it reaches, agents reach. It looks for
a file that this host has just written, and tries to connect: to the API, to a port that this host opens for the moment,
and to the gateway. A cluster that enforces its network policies lets it reach the gateway alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from host.runtime.kubernetes_client import ClusterClient, ClusterRefusal
from host.runtime.kubernetes_pod import PART, PART_LABEL, PodOptions, VolumeMounts, hardened, merged
from host.runtime.kubernetes_state import last_events, node_of, node_standing, standing
from host.runtime.protocol import RuntimeUnavailable, StartFailed
from shared_schema.dataclass import dataclass
from shared_schema.json_text import parse
from shared_schema.system_errors import words_of

RIGHTS = (
    ("create", "pods"),
    ("get", "pods"),
    ("list", "pods"),
    ("patch", "pods"),
    ("delete", "pods"),
    ("get", "pods/log"),
    ("list", "events"),
)
"""What this host does in its namespace; deploy/kubernetes/base/rbac.yaml gives as much."""
CLUSTER_RIGHTS = (("get", "nodes"), ("list", "nodes"))
PROBE_LABEL = "dumbwaiter.probe"
_SECONDS = 90.0
_PAUSE = 0.3
_CONNECT_SECONDS = 3
_LOOK = f"""
import json, os, socket, sys
found = {{}}
targets = json.JSONDecoder().decode(sys.argv[1])
if "KUBERNETES_SERVICE_HOST" in os.environ:
    targets["service"] = [os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])]
for name, (host, port) in targets.items():
    try:
        socket.create_connection((host, port), {_CONNECT_SECONDS}).close()
        found[name] = "open"
    except ConnectionRefusedError:
        found[name] = "refused"
    except OSError as error:
        found[name] = str(error)
try:
    token = open("/mnt/token").read()
except OSError as error:
    token = str(error)
print(json.dumps({{"targets": found, "token": token}}))
"""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a pod found on a node: whether it sees the folder, and what became of each connection."""

    node: str
    sees_folder: bool
    targets: dict[str, str]

    @property
    def leaks(self) -> Sequence[str]:
        """What agents reach and should not."""
        return sorted(name for name, how in self.targets.items() if name != "gateway" and how == "open")

    @property
    def reaches_gateway(self) -> bool:
        """Whether the way to the gateway is open; a refusal is an answer of its machine."""
        return self.targets.get("gateway") in ("open", "refused")


async def missing_rights(client: ClusterClient) -> Sequence[str]:
    """What this host may not do and must, such as `create pods`."""
    asked = [(verb, resource, True) for verb, resource in RIGHTS]
    asked += [(verb, resource, False) for verb, resource in CLUSTER_RIGHTS]
    may = await asyncio.gather(*(client.may(verb, what, namespaced=inside) for verb, what, inside in asked))
    return [f"{verb} {what}" for (verb, what, _), allowed in zip(asked, may, strict=True) if not allowed]


async def probe(
    client: ClusterClient,
    options: PodOptions,
    *,
    image: str,
    uid: int,
    gid: int,
    folder: Path,
    gateway: str | None = None,
    node: str | None = None,
) -> ProbeResult:
    """Have a pod look around, on a node or on any. `folder` is one of this host's that agents are to see.

    Raises `RuntimeUnavailable`, and `StartFailed` with the cluster's reason when no such pod can run.
    """
    name = f"probe-{secrets.token_hex(6)}"
    token = secrets.token_hex(8)
    looked_at = folder / f"node-check-{token}"
    await asyncio.to_thread(_write, looked_at, token)
    try:
        async with _open_port(await client.address()) as here:
            targets = {"api": _api_target(await client.address()), "this host": here}
            if gateway is not None:
                host, _, port = gateway.rpartition(":")
                targets["gateway"] = await _numeric(host.strip("[]"), int(port))
            manifest = _manifest(name, options, image, uid, gid, looked_at, json.dumps(targets), node)
            try:
                await _create(client, manifest)
                ran_on = await _end_of(client, name)
                printed = await client.log(name, "probe")
            finally:  # also of one whose creation was not answered: it may be there
                with contextlib.suppress(RuntimeUnavailable):
                    await client.delete_pod(name, 1)
    finally:
        await asyncio.to_thread(shutil.rmtree, looked_at, ignore_errors=True)
    try:
        found = parse(printed)
    except ValueError:
        found = None
    match found:
        case {"token": str(read), "targets": {**reached}}:
            return ProbeResult(ran_on, read == token, {str(name): str(how) for name, how in reached.items()})
    said = printed[-300:].decode("utf-8", "replace").strip()
    raise StartFailed(f"the pod of a probe did not work: {said or 'it printed nothing'}")


async def _create(client: ClusterClient, manifest: dict[str, Any]) -> None:
    try:
        await client.create_pod(manifest)
    except ClusterRefusal as refusal:
        raise StartFailed(f"the cluster refuses a pod: {refusal.reason}", hint=refusal.hint) from refusal


async def _end_of(client: ClusterClient, name: str) -> str:
    """Wait until a probe's pod has ended; its node."""
    deadline = asyncio.get_running_loop().time() + _SECONDS
    while True:
        pod = await client.pod(name)
        if pod is None:
            raise StartFailed("the pod of a probe was removed by something else")
        node = node_of(pod)
        state = standing(pod, node_standing(await client.node(node)) if node else None, container="probe")
        if state.ended is not None:
            return node
        if asyncio.get_running_loop().time() >= deadline:
            said = [*filter(None, [state.hopeless, state.unplaced]), *last_events(await client.events(name))]
            raise StartFailed(f"the pod of a probe does not start: {said[0] if said else 'nothing says why'}")
        await asyncio.sleep(_PAUSE)


def _manifest(
    name: str,
    options: PodOptions,
    image: str,
    uid: int,
    gid: int,
    folder: Path,
    targets: str,
    node: str | None,
) -> dict[str, Any]:
    volumes = VolumeMounts(options.volumes)
    container = {
        "name": "probe",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _LOOK, targets],
        "volumeMounts": [volumes.mount(folder, "/mnt", writable=False)],
        "resources": {
            "limits": {"memory": "128Mi", "cpu": "500m"},
            "requests": {"memory": "32Mi", "cpu": "10m"},
        },
    }
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": volumes.used(),
        "imagePullSecrets": [{"name": each} for each in options.image_pull_secrets],
    }
    if node is not None:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    if options.runtime_class is not None:
        spec["runtimeClassName"] = options.runtime_class
    given = options.template.get("spec") or {}
    kept = {each: given[each] for each in ("tolerations", "nodeSelector", "affinity") if given.get(each)}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {PART_LABEL: PART, PROBE_LABEL: "1"}},
        "spec": merged(kept, spec),
    }
    return hardened(pod, uid, gid, options)


@contextlib.asynccontextmanager
async def _open_port(api: str) -> AsyncIterator[tuple[str, int]]:
    """A port of this host that is open for the moment, at the address from which the API is reached."""
    host, port = _api_target(api)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(await _numeric(host, port))
            address = str(asking.getsockname()[0])
        except OSError:
            address = "127.0.0.1"
    server = await asyncio.start_server(lambda _, writer: writer.close(), address, 0)
    async with server:
        yield address, int(server.sockets[0].getsockname()[1])


def _api_target(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)


async def _numeric(host: str, port: int) -> tuple[str, int]:
    """The same without a name: pods look none up. Raises `StartFailed`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartFailed(f"the name {host} cannot be looked up: {words_of(error)}") from error
    return str(found[0][4][0]), port


def _write(folder: Path, token: str) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o644)
