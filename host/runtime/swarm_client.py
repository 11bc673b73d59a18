"""Calls of a Swarm's manager: services and tasks of this install. Blocks; raises as `engine_client.py`."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from host.runtime.engine_client import NOT_FOUND, EngineClient, EngineRefusal
from host.runtime.protocol import RuntimeUnavailable
from host.runtime.specification import NODE_LABEL, RUN_LABEL
from host.runtime.swarm_specification import ended
from host.runtime.swarm_state import SwarmNode, is_over, nodes_of, placed_task

_STEP_SECONDS = 0.1
_ATTEMPTS = 5
_LOG_SECONDS = 5.0


class SwarmClient:
    """What is asked of a manager."""

    def __init__(self, engine: EngineClient, install_id: str) -> None:
        self._engine = engine
        self._install_id = install_id

    @contextlib.contextmanager
    def _calling(self) -> Iterator[Any]:
        """Docker's client of the API, which has no types here. Raises as `EngineClient.calling`."""
        with self._engine.calling() as client:
            yield client.api

    def nodes(self) -> list[SwarmNode]:
        """All nodes, by name."""
        try:
            with self._calling() as api:
                return nodes_of(api.nodes())
        except EngineRefusal as error:
            raise RuntimeUnavailable(
                f"the engine is no manager of a Swarm: {error.reason}",
                where=str(self._engine.address),
                hint="set docker_host to the engine of a manager; `docker swarm init` makes one",
            ) from error

    def services(self, label: str) -> Sequence[Mapping[str, Any]]:
        """The services of this install that have a label."""
        with self._calling() as api:
            found: list[dict[str, Any]] = api.services(filters={"label": f"{label}={self._install_id}"})
        return found

    def living(self) -> Mapping[str, int]:
        """How many agents of all installs Swarm wants to run, by the name of the node."""
        with self._calling() as api:
            services = api.services(filters={"label": RUN_LABEL})
        by_service = {task["ServiceID"] for task in self.running()}
        return Counter(
            service["Spec"]["Labels"].get(NODE_LABEL, "") for service in services if service["ID"] in by_service
        )

    def running(self) -> Sequence[Mapping[str, Any]]:
        """The tasks, of all services, that Swarm wants to run, that a node got, and that are not over."""
        with self._calling() as api:
            tasks: list[dict[str, Any]] = api.tasks(filters={"desired-state": "running"})
        return [task for task in tasks if task.get("NodeID") and not is_over(task)]

    def service(self, reference: str) -> Mapping[str, Any] | None:
        """A service by id or name; None when there is none."""
        try:
            with self._calling() as api:
                found: dict[str, Any] = api.inspect_service(reference)
                return found
        except EngineRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None

    def tasks(self, service: str) -> Sequence[Mapping[str, Any]]:
        """The tasks of a service; none where there is no such service."""
        try:
            with self._calling() as api:
                found: list[dict[str, Any]] = api.tasks(filters={"service": service})
                return found
        except EngineRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return []

    def create(self, specification: Mapping[str, Any]) -> str:
        """Make a service; its id. Raises `EngineRefusal`."""
        with self._calling() as api:
            made = api.create_service(
                specification["TaskTemplate"],
                name=specification["Name"],
                labels=specification["Labels"],
                mode=specification["Mode"],
                update_config=specification["UpdateConfig"],
            )
        return str(made["ID"])

    def end(self, reference: str) -> None:
        """Have Swarm end the task of a service, which stays; one that is gone is no error."""
        for attempt in range(_ATTEMPTS):
            service = self.service(reference)
            if service is None:
                return
            wanted = ended(service)
            try:
                with self._calling() as api:
                    api.update_service(
                        service["ID"],
                        service["Version"]["Index"],
                        task_template=wanted["TaskTemplate"],
                        name=wanted["Name"],
                        labels=wanted["Labels"],
                        mode=wanted["Mode"],
                        update_config=wanted["UpdateConfig"],
                    )
                return
            except EngineRefusal as refusal:  # Swarm itself has changed the service meanwhile
                if "out of sequence" not in refusal.reason or attempt == _ATTEMPTS - 1:
                    raise

    def remove(self, reference: str) -> None:
        """Remove a service; one that is gone is no error."""
        try:
            with self._calling() as api:
                api.remove_service(reference)
        except EngineRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise

    def logs(self, reference: str, max_bytes: int) -> bytes:
        """The last part of what a service printed; empty where there is none."""
        try:
            with self._calling() as api:
                output = b"".join(api.service_logs(reference, stdout=True, stderr=True, tail=max_bytes))
        except EngineRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return b""
        return output[-max_bytes:]

    def logs_of_ended(self, reference: str) -> bytes:
        """The same of a container that has just ended, whose output comes a moment later."""
        end = time.monotonic() + _LOG_SECONDS
        while not (output := self.logs(reference, 1_000_000)) and time.monotonic() < end:
            time.sleep(_STEP_SECONDS)
        return output

    def wait(self, service: str, until: Callable[[Mapping[str, Any]], bool], seconds: float) -> Mapping[str, Any]:
        """The task of a service, once it is as wanted. Raises `RuntimeUnavailable`."""
        end = time.monotonic() + seconds
        while True:
            task = placed_task(self.tasks(service))
            if task is not None and until(task):
                return task
            if time.monotonic() > end:
                raise RuntimeUnavailable(f"a container of Swarm was not done within {seconds:g} seconds")
            time.sleep(_STEP_SECONDS)
