"""A real Kubernetes on machines of its own: etcd, API server, controllers, scheduler, and a kubelet on each machine.

The programs are taken from the folder that KUBERNETES_PROGRAMS names: kube-apiserver, kube-controller-manager,
kube-scheduler and kubelet of a version that still drives docker by itself (up to 1.23), as files or packed (.xz). etcd
and kubectl are Debian's packages etcd-server and kubernetes-client.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.cluster.machines import Machine, Machines, lacks, run, wait

VARIABLE = "KUBERNETES_PROGRAMS"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
PAUSE = "dumbwaiter-test-pause:1"
TOKEN = "test-token"
PORT = 16443
_ETCD = "http://127.0.0.1:12379"
# Settings of the kernel that a kubelet would change for the whole machine: hidden behind files of the wanted content.
_KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}

# What every kubelet keeps under one name: with a common folder each clears away what the other needs.
_OWN_FOLDERS = ("/var/lib/dockershim", "/var/log/pods", "/var/log/containers")


def why_not() -> str | None:
    """What is missing for a cluster of its own; None when nothing is."""
    place = os.environ.get(VARIABLE)
    if not place:
        return f"set KUBECONFIG to a cluster's, or {VARIABLE} to the folder with {', '.join(PROGRAMS)}"
    missing = [name for name in PROGRAMS if not any((Path(place) / f"{name}{end}").exists() for end in ("", ".xz"))]
    missing += [name for name in ("etcd", "kubectl", "openssl") if shutil.which(name) is None]
    if missing:
        return f"a cluster of its own lacks {', '.join(missing)}"
    return lacks()


class OwnCluster:
    """Started by `up`, ended by `down`. The last machine has the label gpu=yes."""

    def __init__(self, count: int = 2) -> None:
        self.machines = Machines(count)
        self.folder = self.machines.root / "kubernetes"
        self.kubeconfig = self.folder / "kubeconfig"
        self._kubelets: dict[int, subprocess.Popen[bytes]] = {}

    def up(self) -> None:
        """Start it, until all machines are ready. Raises `CalledProcessError`, `TimeoutError`."""
        self.machines.up()
        self.folder.mkdir()
        self._programs()
        self._control()
        for machine in self.machines.machines:
            self._kubelet(machine.number)
        wait(lambda: len(self.ready()) == self.machines.count, "the nodes of the cluster", 300)
        self._label()

    def down(self) -> None:
        """End it, with its machines."""
        self.machines.down()

    @property
    def names(self) -> list[str]:
        return [machine.name for machine in self.machines.machines]

    def ready(self) -> list[str]:
        """The names of the nodes that are ready."""
        try:
            answer = self.kubectl("get", "nodes", "-o", "json")
        except subprocess.CalledProcessError:
            return []
        return [each["metadata"]["name"] for each in json.loads(answer)["items"] if _is_ready(each)]

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints, as the cluster's admin. Raises `CalledProcessError`."""
        return run("kubectl", "--kubeconfig", str(self.kubeconfig), *arguments)

    def register(self, machine: Machine) -> None:
        """Bring back a machine whose node was deleted: its kubelet says that it is there when it starts."""
        self._kubelets[machine.number].terminate()
        self._kubelets[machine.number].wait(60)
        self._kubelet(machine.number)
        wait(lambda: machine.name in self.ready(), f"the node {machine.name}", 300)
        self._label()

    def _label(self) -> None:
        self.kubectl("label", "--overwrite", "node", self.names[-1], "gpu=yes")

    def load(self, *images: str) -> None:
        """Give images of this machine's engine to all machines."""
        packed = self.folder / "images.tar"
        run("docker", "save", "-o", str(packed), *images)
        for machine in self.machines.machines:
            machine.docker("load", "-q", "-i", str(packed))
        packed.unlink()

    def _programs(self) -> None:
        place = Path(os.environ[VARIABLE])
        for name in PROGRAMS:
            target = self.folder / name
            if (place / name).exists():
                target.symlink_to((place / name).absolute())
                continue
            with lzma.open(place / f"{name}.xz") as packed, open(target, "wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
            target.chmod(0o755)

    def _control(self) -> None:
        first = self.machines.machines[0]
        key = self.folder / "sa.key"
        run("openssl", "genrsa", "-out", str(key), "2048")
        (self.folder / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n")
        server = f"https://{first.address}:{PORT}"
        user: dict[str, Any] = {"name": "admin", "user": {"token": TOKEN}}
        cluster = {"name": "test", "cluster": {"server": server, "insecure-skip-tls-verify": True}}
        context = {"name": "test", "context": {"cluster": "test", "user": "admin"}}
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [cluster],
                    "users": [user],
                    "contexts": [context],
                    "current-context": "test",
                }
            )
        )
        there = ["nsenter", f"--net=/run/netns/{first.name}"]
        peer = "http://127.0.0.1:12380"
        etcd = [
            *("etcd", "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync"),
            *("--listen-client-urls", _ETCD, "--advertise-client-urls", _ETCD, "--listen-peer-urls", peer),
            *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
        ]
        self.machines.start("etcd", [*there, *etcd])
        self.machines.start(
            "apiserver",
            [
                *there,
                str(self.folder / "kube-apiserver"),
                f"--etcd-servers={_ETCD}",
                "--bind-address=0.0.0.0",
                f"--advertise-address={first.address}",
                f"--secure-port={PORT}",
                "--insecure-port=0",
                f"--cert-dir={self.folder}/certificates",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--api-audiences=https://kubernetes.default.svc",
                f"--token-auth-file={self.folder}/tokens.csv",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=InternalIP",
            ],
        )
        wait(self._is_up, "the API server")
        own = f"--kubeconfig={self.kubeconfig}"
        self.machines.start(
            "controllers",
            [
                *there,
                str(self.folder / "kube-controller-manager"),
                *(own, "--port=0", "--secure-port=10257", f"--cert-dir={self.folder}/controllers"),
                f"--service-account-private-key-file={key}",
                f"--root-ca-file={self.folder}/certificates/apiserver.crt",
                "--leader-elect=false",
                "--node-monitor-period=2s",
                "--node-monitor-grace-period=12s",
                "--controllers=*,-cronjob,-ttl",
            ],
        )
        scheduler = [*there, str(self.folder / "kube-scheduler"), own, "--port=0", "--secure-port=10259"]
        self.machines.start("scheduler", [*scheduler, f"--cert-dir={self.folder}/scheduler", "--leader-elect=false"])

    def _is_up(self) -> bool:
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except subprocess.CalledProcessError:
            return False

    def _kubelet(self, number: int) -> None:
        machine = self.machines.machines[number - 1]
        root = self.folder / machine.name
        root.mkdir(exist_ok=True)
        configuration = {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "address": machine.address,
            "healthzPort": 0,
            "readOnlyPort": 0,
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": 8,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "resolvConf": "",
        }
        (root / "kubelet.json").write_text(json.dumps(configuration))
        lines = []
        for place, content in _KERNEL.items():
            hidden = root / place.replace("/", "-")
            hidden.write_text(content)
            lines.append(f"grep -q /proc/sys/{place} /proc/mounts || mount --bind {hidden} /proc/sys/{place}")
        for place in _OWN_FOLDERS:
            lines.append(f"mkdir -p {place}; grep -q {place} /proc/mounts || mount -t tmpfs tmpfs {place}")
        kubelet = [
            f"{self.folder}/kubelet --kubeconfig={self.kubeconfig} --config={root}/kubelet.json --root-dir={root}/root",
            f"--cert-dir={root}/pki --hostname-override={machine.name} --node-ip={machine.address}",
            f"--container-runtime=docker --docker-endpoint={machine.docker_host} --network-plugin=",
            f"--pod-infra-container-image={PAUSE} --seccomp-profile-root={root}/seccomp",
            f"--volume-plugin-dir={root}/plugins --dynamic-config-dir= "
            f"--container-runtime-endpoint=unix://{root}/dockershim.sock",
        ]
        # In the engine's own mount namespace: the engine must see what the kubelet mounts.
        script = "; ".join([*lines, f"exec {' '.join(kubelet)}"])
        self._kubelets[number] = self.machines.start(f"kubelet-{number}", [*machine.inside(), "sh", "-c", script])


def _is_ready(node: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions", []))
