"""The settings of the cluster on which agents run."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class VolumeSetting(BaseModel):
    """A folder that this host and pods see, `[[kubernetes.volumes]]` in dumbwaiter.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path = Field(description="the folder as this host sees it; the data folder must lie in one of them")
    claim: str | None = Field(default=None, description="the PersistentVolumeClaim that holds it")
    host_path: str | None = Field(
        default=None, description="or the path at which every node has it; without both: the same path as here"
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.claim is not None and self.host_path is not None:
            raise ValueError("a volume is a claim or a host_path, not both")
        if not self.folder.is_absolute():
            raise ValueError(f"'{self.folder}' is not an absolute path")
        return self


class KubernetesSetting(BaseModel):
    """The cluster on which agents run, `[kubernetes]` in dumbwaiter.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: str = Field(
        default="dumbwaiter", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", description="where the pods are made"
    )
    kubeconfig: Path | None = Field(
        default=None,
        description="file that says how the cluster is reached; none: KUBECONFIG, else the service account of this "
        "host's own pod",
    )
    context: str | None = Field(default=None, description="which of its contexts; none: the current one")
    volumes: tuple[VolumeSetting, ...] = Field(
        default=(), description="folders that pods see as well: `folder`, and `claim` or `host_path` of each"
    )
    template: Path | None = Field(
        default=None, description="file with a Pod (YAML) that is extended by what this host wants of it"
    )
    image_pull_secrets: tuple[str, ...] = Field(default=(), description="names of the secrets of image registries")
    runtime_class: str | None = Field(default=None, description="the RuntimeClass, for instance gvisor")
    pending_seconds: float = Field(
        default=20, gt=0, le=3600, description="how long a pod waits for a node before it is taken back"
    )
    open_network: bool = Field(
        default=False,
        description="agents run although the cluster does not enforce its network policies: they reach what pods reach",
    )
