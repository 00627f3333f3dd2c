"""Language models: which ones a policy allows, where they are, and which ones an agent calls with which key."""

from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.http_server import TLS_RULES, CaSource, check_tls
from interlock.api.markers import kube
from interlock.api.model import ApiModel
from interlock.api.references import EnvSource
from interlock.api.text import ModelGlob, ModelName, ModelUrl, Provider


class ModelUpstream(ApiModel):
    """Where the models of one provider are."""

    model_config = ConfigDict(json_schema_extra=kube(*TLS_RULES))

    name: Provider
    """What the names of its models begin with. anthropic is spoken to as Anthropic's API, all others as OpenAI's."""

    url: ModelUrl
    """Its base URL, up to and with the version, such as https://llm.example.com/v1; redirects are not followed."""

    network: Literal["Public", "Private"] = Field(default="Public", json_schema_extra=kube(default="Public"))
    """Public: only globally routable addresses are dialled; Private: private ones too. Loopback, link-local: never."""

    ca_from: CaSource | None = None
    """CA certificates that alone are trusted for it; without it those of the guard's image."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        check_tls(self.url, self.network, self.ca_from)
        return self


class ModelPolicy(ApiModel):
    """Which models agents may call, and where they are."""

    allow: tuple[ModelGlob, ...] = Field(default=(), max_length=64)
    """Models, as provider/model; * at the end is whatever follows. Absent: none."""

    urls: tuple[ModelUpstream, ...] = Field(default=(), max_length=16, json_schema_extra=kube(keys=("name",)))
    """Providers besides openai (https://api.openai.com/v1) and anthropic (https://api.anthropic.com/v1), or instead."""


class ModelUse(ApiModel):
    """A model that the agent calls."""

    name: ModelName
    """The model, as provider/model, such as openai/gpt-4o-mini; the policy must allow it."""

    api_key_from: EnvSource
    """The provider's key, which only the guard reads; the agent gets another that is good for nothing elsewhere."""
