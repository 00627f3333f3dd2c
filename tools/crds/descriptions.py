"""Descriptions of the fields of API types: the docstring after each field.

pydantic can read them when a class is made (`use_attribute_docstrings`). Every program that imports the types would
parse their source at each start for it, and only the CRDs need them.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from interlock.api.shared_types import ApiModel


def describe_fields() -> None:
    """Give the fields of all API types that are imported their descriptions."""
    models = list(_subclasses(ApiModel))
    for model in models:
        docstrings: dict[str, str] = {}
        for base in reversed(model.__mro__):
            if issubclass(base, ApiModel):
                docstrings |= _docstrings_of(inspect.getfile(base)).get(base.__qualname__, {})
        for name, field in model.model_fields.items():
            if field.description is None:
                field.description = docstrings.get(name)
    for _ in range(2):  # a type has the schemas of its members' types in it, which may be rebuilt after it
        for model in models:
            model.model_rebuild(force=True)


def _subclasses(model: type[ApiModel]) -> Iterator[type[ApiModel]]:
    for one in model.__subclasses__():
        yield one
        yield from _subclasses(one)


@cache
def _docstrings_of(file: str) -> dict[str, dict[str, str]]:
    """Return the docstrings after the attributes of a file's classes, by the names of class and attribute."""
    module = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {one.name: dict(_docstrings_in(one)) for one in module.body if isinstance(one, ast.ClassDef)}


def _docstrings_in(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
            case _:
                pass
