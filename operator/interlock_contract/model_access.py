"""The language models of an agent as the bundle describes them, and what such a description must keep to. No I/O."""

from typing import Annotated, Final, Literal

from interlock_contract.budget.prices import ModelPrice
from interlock_contract.http_target import FileName, HttpTarget
from interlock_contract.strict_fields import Digest, Name, StrictStruct, like, refuse_doubles

MAX_REQUEST_BYTES: Final = 32 * 1024 * 1024
"""Largest body of a call that a policy can set, and the default."""
LEAST_REQUEST_BYTES: Final = 64 * 1024
"""Smallest bound of a body that a policy can set."""

Shape = Literal["OpenAI", "Anthropic"]
"""Whose API a provider's is like: paths, headers and errors."""


MEMBER: Final = r"^[A-Za-z0-9_][-A-Za-z0-9_.=]{0,62}$"
"""The name of a member of a body for a model, or a value of a beta header."""

CONTENT_HOST: Final = r"^(\*|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*)$"
"""A host from which a provider may load content that a body names by URL, or `*` for all hosts."""

NEVER_MEMBERS: Final = (
    *("background", "background_options", "billing_policy", "container", "enable_search", "fallback_credit_token"),
    *("fallbacks", "mcp_servers", "model", "moderation", "plugins", "prompt", "search_options", "search_parameters"),
    *("tools", "type", "web_search_options"),
)
"""Members that decide which model is called, and what a provider does by itself: no administrator can add them."""


class Model(StrictStruct, frozen=True):
    """A model by the provider's name for it, the file with the key that it is called with, and its price if known."""

    name: Annotated[str, like(r"[A-Za-z0-9]([-A-Za-z0-9._:/@+]{0,190}[A-Za-z0-9])?", "the name of a model")]
    key_file: FileName
    price: ModelPrice | None = None


class Provider(StrictStruct, frozen=True):
    """A provider of models: where its API is, up to and with the version, and the models that may be called.

    `extra_members` are members of bodies, and values of beta headers, that pass besides those of the official SDKs.
    `content_hosts` are the hosts from which the provider may load images and files that a body names by URL.
    `limit_member` limits the output of chat completions, and `takes_usage_option` says whether a stream may be asked
    for its usage. Without them the guard goes by what is known about the provider.
    """

    name: Name
    shape: Shape
    target: HttpTarget
    models: tuple[Model, ...]
    extra_members: tuple[Annotated[str, like(MEMBER, "the name of a member")], ...] = ()
    content_hosts: tuple[Annotated[str, like(CONTENT_HOST, "a host or *")], ...] = ()
    limit_member: Literal["max_completion_tokens", "max_tokens"] | None = None
    takes_usage_option: bool | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if "?" in self.target.url or self.target.headers:
            raise ValueError(".target: must be a URL without a query, and no headers")
        refuse_doubles((model.name for model in self.models), "models", "name")
        if not set(self.extra_members).isdisjoint(NEVER_MEMBERS):
            raise ValueError(f".extraMembers: must have none of {', '.join(NEVER_MEMBERS)}")

    def find(self, name: str) -> Model | None:
        """Return the model of this very name."""
        return next((model for model in self.models if model.name == name), None)


class ModelAccess(StrictStruct, frozen=True):
    """All models of an agent. `price_book` is the digest of the book that has their prices."""

    providers: tuple[Provider, ...]
    price_book: Digest | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        refuse_doubles((provider.name for provider in self.providers), "providers", "name")


def find_provider(models: ModelAccess | None, name: str) -> Provider | None:
    """Return the provider of this name, None where the agent has no model of it."""
    providers = () if models is None else models.providers
    return next((provider for provider in providers if provider.name == name), None)
