"""Probes of a container by the kubelet. They name no host, so that they reach their own pod alone."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator

from interlock.api.markers import Rule, cel_pattern, kube, one_of
from interlock.api.messages import PORT_RESERVED
from interlock.api.shared_types import ApiModel, check_one_of
from interlock.api.template_messages import (
    PORT_NAME_RESERVED,
    PROBE_ACTION,
    PROBE_HEADER_INVALID,
    PROBE_PATH_INVALID,
    PROBE_PORT_INVALID,
)
from interlock.api.text import checked, text_rule
from interlock_contract.pod import FIRST_RESERVED_PORT, LAST_RESERVED_PORT, PORT_NAMES

PORT_NAME = r"^([a-z0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$"
"""A name of IANA: lower case letters, digits and single dashes, with at least one letter."""
LONGEST_PORT_NAME = 15
_HEADER = r"^[A-Za-z0-9][A-Za-z0-9\-]*$"
_PATH = r"^/[!-~]*$"


def is_port_free(port: int) -> bool:
    """Return True if a port is none of Interlock's."""
    return not FIRST_RESERVED_PORT <= port <= LAST_RESERVED_PORT


PORT_IS_FREE = f"(self < {FIRST_RESERVED_PORT} || self > {LAST_RESERVED_PORT})"


def is_port_name(text: str) -> bool:
    """Return True if `text` can name a port."""
    return len(text) <= LONGEST_PORT_NAME and bool(re.fullmatch(PORT_NAME, text))


def check_port(port: int | str) -> int | str:
    """Hold the port of a probe to what the API server refuses.

    Raises:
        ValueError: It is none, or one of Interlock's.
    """
    if isinstance(port, str):
        if not is_port_name(port):
            raise ValueError(PROBE_PORT_INVALID)
        if port in PORT_NAMES:
            raise ValueError(PORT_NAME_RESERVED)
    elif not 1 <= port <= 65535:  # noqa: PLR2004 - what a port can be
        raise ValueError(PROBE_PORT_INVALID)
    elif not is_port_free(port):
        raise ValueError(PORT_RESERVED)
    return port


ProbePort = Annotated[
    int | str,
    AfterValidator(check_port),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": LONGEST_PORT_NAME,
            **kube(
                Rule(
                    rule=f"type(self) == int ? self >= 1 && self <= 65535 && {PORT_IS_FREE}"
                    f" : self.matches({cel_pattern(PORT_NAME)}) && !(self in {list(PORT_NAMES)})",
                    message=PROBE_PORT_INVALID,
                )
            ),
        }
    ),
]
"""A port of the container by number, or by the name that spec.template.ports gives it."""

PortNumber = Annotated[
    int,
    Field(ge=1, le=65535, json_schema_extra=kube(Rule(rule=PORT_IS_FREE, message=PORT_RESERVED), format="int32")),
    AfterValidator(check_port),
]
"""A port of the container by number."""


ProbePath = Annotated[
    str,
    Field(
        max_length=1024,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(_PATH)})", PROBE_PATH_INVALID)),
    ),
    checked(_PATH, PROBE_PATH_INVALID),
]
"""The path of a probe's request."""


class ExecAction(ApiModel):
    """A command in the container."""

    command: tuple[Annotated[str, Field(max_length=1024)], ...] = Field(min_length=1, max_length=16)
    """The command. Exit code 0 is a success."""


class ProbeHeader(ApiModel):
    """A header of a probe's request."""

    name: Annotated[str, Field(max_length=128), checked(_HEADER, PROBE_HEADER_INVALID)]
    """Its name."""

    value: str = Field(default="", max_length=256)
    """Its value."""


class HttpGetAction(ApiModel):
    """A GET request to the pod."""

    path: ProbePath | None = None
    """Its path; absent for /."""

    port: ProbePort
    """Port of the container by number or name."""

    scheme: Literal["HTTP", "HTTPS"] | None = None
    """HTTP or HTTPS, whose certificate is not verified; absent for HTTP."""

    http_headers: tuple[ProbeHeader, ...] = Field(default=(), max_length=8)
    """Its headers."""


class TcpSocketAction(ApiModel):
    """A TCP connection to the pod."""

    port: ProbePort
    """Port of the container by number or name."""


class GrpcAction(ApiModel):
    """A request of the gRPC health protocol to the pod."""

    port: PortNumber
    """Port of the container."""

    service: str | None = Field(default=None, max_length=253)
    """Name of the service that is asked for."""


class ContainerProbe(ApiModel):
    """A check of the container by the kubelet; exactly one of exec, httpGet, tcpSocket and grpc is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(one_of("exec", "httpGet", "tcpSocket", "grpc", message=PROBE_ACTION))
    )

    exec_action: ExecAction | None = Field(default=None, alias="exec")
    """A command in the container."""

    http_get: HttpGetAction | None = None
    """A GET request to the pod."""

    tcp_socket: TcpSocketAction | None = None
    """A TCP connection to the pod."""

    grpc: GrpcAction | None = None
    """A request of the gRPC health protocol."""

    initial_delay_seconds: int | None = Field(default=None, ge=0, le=3600, json_schema_extra=kube(format="int32"))
    """Seconds before the first check."""

    timeout_seconds: int | None = Field(default=None, ge=1, le=300, json_schema_extra=kube(format="int32"))
    """Seconds after which a check has failed."""

    period_seconds: int | None = Field(default=None, ge=1, le=3600, json_schema_extra=kube(format="int32"))
    """Seconds between two checks."""

    failure_threshold: int | None = Field(default=None, ge=1, le=1000, json_schema_extra=kube(format="int32"))
    """Failures in a row that count."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_one_of(self, "exec_action", "http_get", "tcp_socket", "grpc", message=PROBE_ACTION)
        return self


class ReadinessProbe(ContainerProbe):
    """A check on which the container's readiness depends; exactly one of exec, httpGet, tcpSocket and grpc is set."""

    success_threshold: int | None = Field(default=None, ge=1, le=100, json_schema_extra=kube(format="int32"))
    """Successes in a row after a failure."""
