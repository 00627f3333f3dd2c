"""An MCP server that is reached over HTTP: its URL, what it is reached with, and whom to trust."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.markers import Rule, cel_sentence, kube
from interlock.api.model import ApiModel
from interlock.api.references import ConfigMapKeyRef, EnvSource, SecretKeyRef
from interlock.api.sentences import (
    CA_SOURCE,
    CA_WITHOUT_TLS,
    HEADER_TWICE,
    HEADER_VALUE,
    HTTP_NOT_PRIVATE,
    plain,
    worded,
)
from interlock.api.text import HeaderName, HeaderValue, ServerUrl


class HttpHeader(ApiModel):
    """A header of every request to the server; exactly one of value and valueFrom is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="has(self.value) != has(self.valueFrom)",
                message=plain(HEADER_VALUE),
                message_expression=cel_sentence(HEADER_VALUE, name="self.name"),
            ),
        ),
    )

    name: HeaderName
    """Its name; those of MCP, of the connection and of the body are refused."""

    value: HeaderValue | None = None
    """Its value, for what is no secret."""

    value_from: EnvSource | None = None
    """Where its value comes from, whole, with a scheme such as Bearer in it; only the guard reads it."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.value is None) == (self.value_from is None):
            raise ValueError(worded(HEADER_VALUE, name=self.name))
        return self


class CaSource(ApiModel):
    """Where CA certificates in PEM come from; exactly one of configMapKeyRef and secretKeyRef is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.configMapKeyRef) != has(self.secretKeyRef)", message=CA_SOURCE)),
    )

    config_map_key_ref: ConfigMapKeyRef | None = None
    """One key of a ConfigMap."""

    secret_key_ref: SecretKeyRef | None = None
    """One key of a Secret."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if (self.config_map_key_ref is None) == (self.secret_key_ref is None):
            raise ValueError(CA_SOURCE)
        return self


TLS_RULES = (
    Rule(
        rule="self.url.startsWith('https:') || self.network == 'Private'",
        message=HTTP_NOT_PRIVATE,
        field_path=".url",
    ),
    Rule(
        rule="!has(self.caFrom) || self.url.startsWith('https:')",
        message=CA_WITHOUT_TLS,
        field_path=".caFrom",
    ),
)
"""What holds for every `url` with a `network` and a `caFrom`; `check_tls` is the same in Python."""


def check_tls(url: str, network: Literal["Public", "Private"], ca_from: CaSource | None) -> None:
    """Hold a URL to `TLS_RULES`.

    Raises:
        ValueError: What it says is read by others on the way, or its authorities are for nothing.
    """
    is_https = url.startswith("https:")
    if not is_https and network != "Private":
        raise ValueError(HTTP_NOT_PRIVATE)
    if not is_https and ca_from is not None:
        raise ValueError(CA_WITHOUT_TLS)


class HttpServer(ApiModel):
    """An MCP server that runs elsewhere and is reached by the guard over streamable HTTP."""

    model_config = ConfigDict(json_schema_extra=kube(*TLS_RULES))

    url: ServerUrl
    """Its one URL; redirects are not followed. http:// needs network Private: what is sent can be read on the way."""

    network: Literal["Public", "Private"] = Field(default="Public", json_schema_extra=kube(default="Public"))
    """Public: only globally routable addresses are dialled; Private: private ones too. Loopback, link-local: never."""

    headers: tuple[HttpHeader, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=kube(
            Rule(
                rule="self.all(h, self.exists_one(g, g.name.lowerAscii() == h.name.lowerAscii()))",
                message=HEADER_TWICE,
            ),
            keys=("name",),
        ),
    )
    """Headers of every request, such as Authorization."""

    ca_from: CaSource | None = None
    """CA certificates that alone are trusted for this server; without it those of the guard's image."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_tls(self.url, self.network, self.ca_from)
        if len({header.name.lower() for header in self.headers}) < len(self.headers):
            raise ValueError(HEADER_TWICE)
        return self
