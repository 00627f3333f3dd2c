"""The language models of an agent as the bundle describes them, and what such a description must keep to. No I/O."""

from typing import Annotated, Literal

from interlock_contract.http_target import FileName, HttpTarget
from interlock_contract.strict_fields import Digest, Name, StrictStruct, like, refuse_doubles

Shape = Literal["OpenAI", "Anthropic"]
"""Whose API a provider's is like: paths, headers and errors."""


class Model(StrictStruct, frozen=True):
    """A model by the provider's name for it, and the file that holds the key that it is called with."""

    name: Annotated[str, like(r"[A-Za-z0-9]([-A-Za-z0-9._:/@+]{0,190}[A-Za-z0-9])?", "the name of a model")]
    key_file: FileName


class Provider(StrictStruct, frozen=True):
    """A provider of models: where its API is, up to and with the version, and the models that may be called."""

    name: Name
    shape: Shape
    target: HttpTarget
    models: tuple[Model, ...]

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if "?" in self.target.url or self.target.headers:
            raise ValueError(".target: must be a URL without a query, and no headers")
        refuse_doubles((model.name for model in self.models), "models", "name")

    def find(self, name: str) -> Model | None:
        """Return the model of this very name."""
        return next((model for model in self.models if model.name == name), None)


class ModelAccess(StrictStruct, frozen=True):
    """All models of an agent, and the SHA-256 in hex of the key that it has to show."""

    providers: tuple[Provider, ...]
    key_digest: Digest

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        refuse_doubles((provider.name for provider in self.providers), "providers", "name")


def find_provider(models: ModelAccess | None, name: str) -> Provider | None:
    """Return the provider of this name, None where the agent has no model of it."""
    providers = () if models is None else models.providers
    return next((provider for provider in providers if provider.name == name), None)
