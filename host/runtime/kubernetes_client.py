"""Calls of a Kubernetes API, and its errors as ours. The only module that imports `kubernetes_asyncio`, which takes
seconds: it is done in a thread, before the first call.

What comes back is what the API says, as plain data. Nothing is connected before the first call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from host.runtime.protocol import RuntimeUnavailable
from shared_schema.dataclass import dataclass
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.json_text import parse
from shared_schema.provisions import how_to_install_extra
from shared_schema.system_errors import words_of

if TYPE_CHECKING:
    from kubernetes_asyncio.client.api_client import ApiClient

NOT_FOUND, CONFLICT, FORBIDDEN, BAD_REQUEST, UNPROCESSABLE = 404, 409, 403, 400, 422
MERGE_PATCH = "application/merge-patch+json"
_CALL_SECONDS = 15.0
_LOG_SECONDS = 30.0
_MOST_LOG_LINES = 50_000
_NO_LOG = b"unable to retrieve container logs"  # is what old kubelets print in place of a log that is gone

Object = dict[str, Any]
"""An object of the API, or an answer, as JSON has it."""


class ClusterRefusal(RuntimeUnavailable):
    """The API answers a call with an error: `status` is the HTTP status, `reason` its own words.

    A caller that knows what a status means for its call catches this. For all others the cluster cannot be used.
    """

    def __init__(self, status: int, reason: str, where: str) -> None:
        super().__init__(f"the Kubernetes API fails: {reason}", where=where, hint=_hint(status))
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How the API is reached. `kubeconfig` None: as the service account of the pod in which this host runs."""

    namespace: str
    kubeconfig: Path | None = None
    context: str | None = None


class ClusterClient:
    """Calls of one cluster, in one namespace where the kind of object has namespaces.

    Every method raises `RuntimeUnavailable` when the API does not answer, and `ClusterRefusal` when it refuses.
    """

    def __init__(self, access: ClusterAccess) -> None:
        self.access = access
        self._api: ApiClient | None = None
        self._connecting = asyncio.Lock()

    async def version(self) -> str:
        """The API server's version."""
        return str((await self._call("GET", "/version"))["gitVersion"])

    async def read(self, path: str) -> Object:
        """Any object or list, by its path in the API."""
        return await self._call("GET", path)

    async def address(self) -> str:
        """The API's URL."""
        return str((await self._connected()).configuration.host)

    async def create_pod(self, manifest: Object, *, only_try: bool = False) -> Object:
        """Create a pod; `only_try`: have the API check it, and make nothing."""
        query = [("dryRun", "All")] if only_try else []
        return await self._call("POST", self._pods(), body=manifest, query=query)

    async def pod(self, name: str) -> Object | None:
        """A pod; None when there is none of that name."""
        try:
            return await self._call("GET", self._pods(name))
        except ClusterRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None

    async def pods(self, selector: str) -> Sequence[Object]:
        """The pods with labels (`name=value`)."""
        return _items(await self._call("GET", self._pods(), query=[("labelSelector", selector)]))

    async def delete_pod(self, name: str, grace: int, *, seconds: float = _CALL_SECONDS) -> None:
        """Ask for the end of a pod; 0 removes it without asking its node. One that is gone is no error."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": grace}
        try:
            await self._call("DELETE", self._pods(name), body=body, seconds=seconds)
        except ClusterRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise

    async def change_metadata(self, name: str, change: Object) -> None:
        """Merge something into a pod's metadata. A pod that is gone is no error."""
        try:
            await self._call("PATCH", self._pods(name), body={"metadata": change}, content=MERGE_PATCH)
        except ClusterRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise

    async def log(self, name: str, container: str) -> bytes:
        """What a container has printed, the last lines of it; empty where there is none (any more)."""
        query = [("container", container), ("tailLines", str(_MOST_LOG_LINES))]
        try:
            async with self._answer("GET", f"{self._pods(name)}/log", query=query, seconds=_LOG_SECONDS) as answer:
                return _log(await answer.read())
        except ClusterRefusal as refusal:
            if refusal.status not in (NOT_FOUND, BAD_REQUEST):  # BAD_REQUEST: it has not started, or is gone
                raise
            return b""

    @asynccontextmanager
    async def following(self, name: str, container: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """What a container has printed and prints, until it ends. The node answers, when the block begins."""
        query = [("container", container), ("tailLines", str(_MOST_LOG_LINES)), ("follow", "true")]
        async with self._answer("GET", f"{self._pods(name)}/log", query=query, seconds=None) as answer:
            yield answer.content.iter_any()

    async def node(self, name: str) -> Object | None:
        """A node; None when the cluster has none of that name."""
        try:
            return await self._call("GET", f"/api/v1/nodes/{name}")
        except ClusterRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None

    async def nodes(self) -> Sequence[Object]:
        """All nodes of the cluster."""
        return _items(await self._call("GET", "/api/v1/nodes"))

    async def events(self, pod: str) -> Sequence[Object]:
        """What the cluster has noted of a pod."""
        query = [("fieldSelector", f"involvedObject.kind=Pod,involvedObject.name={pod}")]
        return _items(await self._call("GET", f"/api/v1/namespaces/{self.access.namespace}/events", query=query))

    async def claim(self, name: str) -> Object | None:
        """A claim of a volume; None when there is none of that name."""
        try:
            path = f"/api/v1/namespaces/{self.access.namespace}/persistentvolumeclaims/{name}"
            return await self._call("GET", path)
        except ClusterRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None

    async def network_policies(self) -> Sequence[Object]:
        """The network policies of the namespace."""
        path = f"/apis/networking.k8s.io/v1/namespaces/{self.access.namespace}/networkpolicies"
        return _items(await self._call("GET", path))

    async def may(self, verb: str, resource: str, group: str = "", *, namespaced: bool = True) -> bool:
        """Whether this host may do something; `resource` as in a Role, `pods/log` for instance."""
        resource, _, below = resource.partition("/")
        attributes = {"verb": verb, "resource": resource, "subresource": below, "group": group}
        if namespaced:
            attributes["namespace"] = self.access.namespace
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool((await self._call("POST", path, body=review))["status"]["allowed"])

    async def close(self) -> None:
        """Release the connections."""
        if self._api is not None:
            await self._api.close()
            self._api = None

    def _pods(self, name: str | None = None) -> str:
        return f"/api/v1/namespaces/{self.access.namespace}/pods" + ("" if name is None else f"/{name}")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Object | None = None,
        content: str = "application/json",
        seconds: float = _CALL_SECONDS,
    ) -> Object:
        async with self._answer(method, path, query=query, body=body, content=content, seconds=seconds) as answer:
            found: Object = parse(await answer.read())
            return found

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Object | None = None,
        content: str = "application/json",
        seconds: float | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One answer of the API that is no error, to be read inside the block."""
        where: str | None = self.access.context
        try:
            api = await self._connected()
            where = api.configuration.host
            answer: aiohttp.ClientResponse = await api.call_api(
                path,
                method,
                query_params=list(query),
                header_params={"Accept": "application/json, */*", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=aiohttp.ClientTimeout(total=seconds, connect=_CALL_SECONDS),
            )
            try:
                if not 200 <= answer.status < 300:
                    raise ClusterRefusal(answer.status, _reason(answer, await answer.read()), str(where))
                yield answer
            finally:
                answer.release()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = str(error) or type(error).__name__
            hint = "`kubectl get --raw /readyz` shows whether it answers"
            raise RuntimeUnavailable(f"the Kubernetes API does not answer: {said}", where=where, hint=hint) from error

    async def _connected(self) -> ApiClient:
        async with self._connecting:
            if self._api is None:
                self._api = await self._connect()
            return self._api

    async def _connect(self) -> ApiClient:
        try:
            await asyncio.to_thread(_import)
            from kubernetes_asyncio import config
            from kubernetes_asyncio.client.api_client import ApiClient
            from kubernetes_asyncio.client.configuration import Configuration
            from yaml import YAMLError
        except ImportError as error:
            raise DumbwaiterError(
                "Kubernetes cannot be used without the package kubernetes_asyncio",
                hint=how_to_install_extra("kubernetes"),
            ) from error
        configuration = Configuration()
        try:
            if self.access.kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(
                    config_file=str(self.access.kubeconfig),
                    context=self.access.context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (
            config.ConfigException,
            YAMLError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:
            raise RuntimeUnavailable(
                f"what says how the cluster is reached cannot be used: {words_of(error)}",
                where=self.access.kubeconfig,
                hint="set kubernetes.kubeconfig to a file with which `kubectl get pods` works",
            ) from error
        return ApiClient(configuration)


def read_template(path: Path) -> Object:
    """The Pod in a YAML or JSON file. Blocks. Raises `FileTrouble` for one that cannot be read, or is no Pod."""
    try:
        import yaml
    except ImportError as error:
        raise DumbwaiterError(
            "a template cannot be read without the package kubernetes_asyncio",
            hint=how_to_install_extra("kubernetes"),
        ) from error
    hint = "write a Pod, as `kubectl apply` takes it; docs/cluster.md has one"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise FileTrouble(f"the template of pods cannot be read: {words_of(error)}", where=path, hint=hint) from error
    if not isinstance(found, dict) or found.get("kind", "Pod") != "Pod":
        raise FileTrouble("the template is no Pod", where=path, hint=hint)
    return found


def _import() -> None:
    import kubernetes_asyncio.client
    import kubernetes_asyncio.config  # noqa: F401


def _items(found: Mapping[str, Any]) -> Sequence[Object]:
    items: Sequence[Object] = found.get("items") or []
    return items


def _reason(answer: aiohttp.ClientResponse, body: bytes) -> str:
    try:
        return str(parse(body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status} {answer.reason} {body[:200].decode('utf-8', 'replace')}".strip()


def _hint(status: int) -> str | None:
    if status == 401:
        return "the token or certificate in the kubeconfig is not accepted (any more): renew it"
    if status == FORBIDDEN:
        return "`dumbwaiter doctor` names the rights that are missing; deploy/kubernetes has them as a Role"
    return None


def _log(printed: bytes) -> bytes:
    return b"" if printed.startswith(_NO_LOG) else printed
