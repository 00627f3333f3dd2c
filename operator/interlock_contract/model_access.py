"""The language models of an agent as the bundle describes them, and what such a description must keep to. No I/O."""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from interlock_contract.canonical_json import is_digest
from interlock_contract.http_target import HttpTarget, is_key_file, parse_target
from interlock_contract.strict_fields import BundleInvalid, StrictFields, refuse_doubles

Shape = Literal["OpenAI", "Anthropic"]
"""Whose API a provider's is like: paths, headers and errors."""

_MODEL: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._:/@+]{0,190}[A-Za-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Model:
    """A model by the provider's name for it, and the file that holds the key that it is called with."""

    name: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of models: where its API is, up to and with the version, and the models that may be called."""

    name: str
    shape: Shape
    target: HttpTarget
    models: tuple[Model, ...]

    def find(self, name: str) -> Model | None:
        """Return the model of this very name."""
        return next((model for model in self.models if model.name == name), None)


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """All models of an agent, and the SHA-256 in hex of the key that it has to show."""

    providers: tuple[Provider, ...]
    key_digest: str


def find_provider(models: ModelAccess | None, name: str) -> Provider | None:
    """Return the provider of this name, None where the agent has no model of it."""
    providers = () if models is None else models.providers
    return next((provider for provider in providers if provider.name == name), None)


def parse_models(value: Any, path: str) -> ModelAccess:
    """Read the models out of a bundle.

    Raises:
        BundleInvalid: Naming the path of what is wrong.
    """
    fields = StrictFields(value, path)
    providers = tuple(_provider(item, at) for item, at in fields.items("providers"))
    key_digest = fields.take("keyDigest")
    fields.close()
    refuse_doubles([provider.name for provider in providers], f"{path}.providers", "name")
    if not is_digest(key_digest):
        raise BundleInvalid(f"{path}.keyDigest: must be a SHA-256 in hex")
    return ModelAccess(providers, key_digest)


def _provider(value: Any, path: str) -> Provider:
    fields = StrictFields(value, path)
    provider = Provider(
        name=fields.name("name"),
        shape=cast("Shape", fields.one_of("shape", get_args(Shape))),
        target=parse_target(fields.take("target"), fields.at("target")),
        models=tuple(_model(item, at) for item, at in fields.items("models")),
    )
    fields.close()
    if "?" in provider.target.url or provider.target.headers:
        raise BundleInvalid(f"{path}.target: must be a URL without a query, and no headers")
    refuse_doubles([model.name for model in provider.models], f"{path}.models", "name")
    return provider


def _model(value: Any, path: str) -> Model:
    fields = StrictFields(value, path)
    model = Model(fields.text("name"), fields.text("keyFile"))
    fields.close()
    if _MODEL.match(model.name) is None:
        raise BundleInvalid(f"{path}.name: must be the name of a model")
    if not is_key_file(model.key_file):
        raise BundleInvalid(f"{path}.keyFile: must be the name of a file")
    return model
