"""The settings of traces: `[telemetry]` in dumbwaiter.toml."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from host.web_settings import is_safe_url

_PATH = "/v1/traces"


class TelemetrySetting(BaseModel):
    """Where traces go, `[telemetry]`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    endpoint: str | None = Field(
        default=None,
        description="the collector that takes OTLP over HTTP: `http://127.0.0.1:4318`; none: no traces are made",
    )
    headers: dict[str, SecretStr] = Field(
        default={}, description="headers that the collector wants, such as `Authorization`; over https or here alone"
    )
    service_name: str = Field(
        default="dumbwaiter", min_length=1, max_length=200, description="what this host is called in the traces"
    )

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        try:
            parts = urlsplit(endpoint)
            _ = parts.port
        except ValueError as error:
            raise ValueError("it is no address: write http://127.0.0.1:4318") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("an address has a scheme and a name: http://127.0.0.1:4318")
        if parts.username or parts.password:
            raise ValueError("an address has no password in it: name it under `headers`")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _keeps_secrets(self) -> Self:
        if self.headers and self.endpoint is not None and not is_safe_url(self.endpoint):
            raise ValueError("headers are sent over https, or on this machine: change the endpoint to https")
        return self

    @property
    def url(self) -> str:
        """Where spans are posted."""
        endpoint = self.endpoint or ""
        return endpoint if endpoint.endswith(_PATH) else endpoint + _PATH
