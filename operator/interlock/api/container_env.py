"""Environment variables of the agent's container, and the fields of its pod that they may come from."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.config_maps import ConfigMapKeySelector
from interlock.api.markers import Rule, cel_pattern, cel_sentence, kube, one_of
from interlock.api.messages import LABEL_KEY, VARIABLE_VALUE, format_message, plain
from interlock.api.shared_types import ApiModel, check_one_of
from interlock.api.template_messages import ENV_SOURCE, FIELD_INVALID, FILE_FIELD_INVALID
from interlock.api.text import VariableName, checked, text_rule

_KEYED = rf"metadata\.(labels|annotations)\['{LABEL_KEY[1:-1]}'\]"
_NAMED = r"metadata\.(name|namespace|uid)"
FIELD_OF_VARIABLE = rf"^({_NAMED}|{_KEYED}|spec\.(nodeName|serviceAccountName)|status\.podIPs?)$"
"""Fields of the pod that a variable may have. The addresses of its node are not among them."""
FIELD_OF_FILE = rf"^({_NAMED}|{_KEYED}|metadata\.(labels|annotations))$"
"""Fields of the pod that a file may have."""

FieldPath = Annotated[
    str,
    Field(
        max_length=400,
        json_schema_extra=kube(text_rule(f"self.matches({cel_pattern(FIELD_OF_VARIABLE)})", FIELD_INVALID)),
    ),
    checked(FIELD_OF_VARIABLE, FIELD_INVALID),
]
"""A field of the pod for a variable."""

# A rule that deep in lists of lists would cost the API server too much, so Python alone checks this.
FileFieldPath = Annotated[str, Field(max_length=400), checked(FIELD_OF_FILE, FILE_FIELD_INVALID)]
"""A field of the pod for a file."""


class FieldRef(ApiModel):
    """One field of the pod."""

    field_path: FieldPath
    """metadata.name, metadata.namespace, metadata.uid, metadata.labels['key'], metadata.annotations['key'],
    spec.nodeName, spec.serviceAccountName, status.podIP or status.podIPs."""


class FileFieldRef(ApiModel):
    """One field of the pod's metadata."""

    field_path: FileFieldPath
    """metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations, or one key of them."""


class EnvVarSource(ApiModel):
    """Where a value comes from. An agent holds no secrets, so it is never one."""

    model_config = ConfigDict(json_schema_extra=kube(one_of("configMapKeyRef", "fieldRef", message=ENV_SOURCE)))

    config_map_key_ref: ConfigMapKeySelector | None = None
    """One key of a ConfigMap, with the value that it has when a revision begins."""

    field_ref: FieldRef | None = None
    """One field of the pod."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_one_of(self, "config_map_key_ref", "field_ref", message=ENV_SOURCE)
        return self


class EnvVar(ApiModel):
    """An environment variable of the agent."""

    model_config = ConfigDict(
        json_schema_extra=kube(
            Rule(
                rule="!has(self.valueFrom) || !has(self.value) || self.value == ''",
                message=plain(VARIABLE_VALUE),
                message_expression=cel_sentence(VARIABLE_VALUE, name="self.name"),
            ),
        ),
    )

    name: VariableName
    """Name of the variable. Names that start with INTERLOCK_ are refused."""

    value: str = Field(default="", max_length=4096)
    """Value of the variable. An agent holds no secrets, so a value cannot come from one."""

    value_from: EnvVarSource | None = None
    """Where the value comes from; absent for value."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if self.value_from is not None and self.value:
            raise ValueError(format_message(VARIABLE_VALUE, name=self.name))
        return self
