"""What a value of a chart does: which fields of which objects it sets, and how a template says so.

A value's bindings stand in the annotation of its field in `values.py`. Objects are written as `Kind/name`, with `*` for
any characters. Paths of fields are those of kustomize's replacements, such as
`spec.template.spec.containers.[name=operator].env`.
"""

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from typing_extensions import override

from tools.charts.sources import Manifest, SourceError, name_of

MISSING: Final = object()
"""The value of a field that an object lacks."""

_SELECTION: Final = re.compile(r"\[(\w+)=(.+)\]")
_STEP: Final = re.compile(r"\[[^\]]*\]|[^.\[\]]+")


@dataclass
class Tokens:
    """Parts of templates, each with a token that stands for it while objects are written as YAML."""

    lines: dict[str, tuple[str, str]] = field(default_factory=dict)

    def put(self, text: str, block: str = "") -> str:
        """Return the token of a text.

        Args:
            text: What replaces the token.
            block: If given, the action that the line of the token depends on, such as `with .Values.x`.
        """
        token = f"INTERLOCK_TOKEN_{len(self.lines)}_"
        self.lines[token] = (text, block)
        return token


class Binding(ABC):
    """One effect of a value."""

    @abstractmethod
    def applies_to(self, manifest: Manifest) -> bool:
        """Return True if the value changes this object."""

    @abstractmethod
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        """Put tokens into an object.

        Args:
            manifest: The object, which is changed.
            value: The value in a template, such as `.Values.audit.keepDays`.
            tokens: Where the parts of templates go.
        """

    def default(self, manifest: Manifest) -> Any:  # noqa: ARG002 - others read it
        """Return what the manifest says in place of the value, `MISSING` if it says nothing."""
        return MISSING

    def taken(self, manifest: Manifest) -> frozenset[str]:  # noqa: ARG002 - others read it
        """Return the keys that the manifest itself has where the value adds some."""
        return frozenset()

    def condition(self, value: str) -> str:  # noqa: ARG002 - others read it
        """Return the condition on which the object exists, empty if it always does."""
        return ""


@dataclass(frozen=True)
class OfObject(Binding):
    """An effect on a field of the objects that a pattern names.

    Attributes:
        path: The field.
        target: The objects. Empty: those that `Of` names for the group of the value.
    """

    path: str
    target: str = ""

    @override
    def applies_to(self, manifest: Manifest) -> bool:
        return fnmatchcase(name_of(manifest), self.target)


@dataclass(frozen=True)
class Sets(OfObject):
    """Replaces a field, whose value in the manifest is the default.

    Attributes:
        as_text: The field is a string, and the value a number.
        is_optional: The object lacks the field if the value is empty or 0.
    """

    as_text: bool = False
    is_optional: bool = False

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        text = f"{{{{ toJson {value} | quote }}}}" if self.as_text else f"{{{{ toJson {value} }}}}"
        parent[last] = tokens.put(text, f"if {value}" if self.is_optional else "")

    @override
    def default(self, manifest: Manifest) -> Any:
        parent, last = _parent(manifest, self.path)
        found = parent[last]
        return int(found) if self.as_text else found


@dataclass(frozen=True)
class Adds(OfObject):
    """Adds a field that the manifest lacks, unless the value is empty."""

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        if last in parent:
            raise SourceError(f"{name_of(manifest)} has {self.path}: use Sets")
        parent[last] = tokens.put("{{ toJson . }}", f"with {value}")


@dataclass(frozen=True)
class AddsEntries(OfObject):
    """Adds the entries of a map to one of the manifest."""

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        key = tokens.put("{{ toJson $key }}", f"range $key, $entry := {value}")
        parent[last][key] = tokens.put("{{ toJson $entry }}")

    @override
    def taken(self, manifest: Manifest) -> frozenset[str]:
        parent, last = _parent(manifest, self.path)
        return frozenset(parent[last])


@dataclass(frozen=True)
class Appends(OfObject):
    """Appends a list to one of the manifest.

    Attributes:
        key: The member of an entry that no two entries may have alike.
    """

    key: str = "name"

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        parent[last].append(tokens.put("{{ toJson . }}", f"range {value}"))

    @override
    def taken(self, manifest: Manifest) -> frozenset[str]:
        parent, last = _parent(manifest, self.path)
        return frozenset(one[self.key] for one in parent[last])


@dataclass(frozen=True)
class AddsVariable(OfObject):
    """Adds an environment variable to a container, unless the value is empty.

    Attributes:
        path: That of the list of variables.
        name: The variable.
        as_json: The variable has the value as JSON.
    """

    name: str = ""
    as_json: bool = False

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        function = "toJson" if self.as_json else "toString"
        text = f"{{name: {self.name}, value: {{{{ {function} . | quote }}}}}}"
        parent[last].append(tokens.put(text, f"with {value}"))


@dataclass(frozen=True)
class Chooses(OfObject):
    """Replaces a field if the value is false.

    Attributes:
        otherwise: The field in that case, as JSON.
    """

    otherwise: str = ""

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        parent[last] = tokens.put(
            f"{{{{ if {value} }}}}{json.dumps(parent[last])}{{{{ else }}}}{self.otherwise}{{{{ end }}}}"
        )


@dataclass(frozen=True)
class ReplacesWhere(OfObject):
    """Replaces a field where a named template returns a text, which reads the value.

    Attributes:
        helper: The named template.
        otherwise: The field in that case, as JSON.
    """

    helper: str = ""
    otherwise: str = ""

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        condition = f'include "{self.helper}" .'
        parent[last] = tokens.put(
            f"{{{{ if {condition} }}}}{self.otherwise}{{{{ else }}}}{json.dumps(parent[last])}{{{{ end }}}}"
        )


@dataclass(frozen=True)
class AddsRunbooks(OfObject):
    """Adds the address of its page to each alert that names one, unless the value is empty.

    The annotation `runbook` of an alert names a page of this repository. `runbook_url` is what Alertmanager's templates
    and Prometheus' mixins read.
    """

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        for rule in (rule for group in parent[last] for rule in group["rules"]):
            page = rule.get("annotations", {}).get("runbook")
            if page is not None:
                text = f'{{{{ printf "%s/%s" . {json.dumps(page)} | toJson }}}}'
                rule["annotations"]["runbook_url"] = tokens.put(text, f"with {value}")


@dataclass(frozen=True)
class SetsImage(OfObject):
    """Replaces the name of an image by registry, repository, and tag or digest."""

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        parent, last = _parent(manifest, self.path)
        call = f'include "interlock.image" (dict "images" .Values.images "image" {value} "chart" .Chart)'
        parent[last] = tokens.put(f"{{{{ {call} | quote }}}}")

    @override
    def default(self, manifest: Manifest) -> Any:
        parent, last = _parent(manifest, self.path)
        name = parent[last].partition("/")[2]
        return {"repository": name.partition(":")[0]}


@dataclass(frozen=True)
class Keeps(Binding):
    """Has Helm leave objects in the cluster when the chart is uninstalled.

    Attributes:
        target: The objects.
    """

    target: str

    @override
    def applies_to(self, manifest: Manifest) -> bool:
        return fnmatchcase(name_of(manifest), self.target)

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        if "annotations" in manifest["metadata"]:
            raise SourceError(f"{name_of(manifest)} has annotations, which {value} would replace")
        policy = json.dumps({"helm.sh/resource-policy": "keep"})
        manifest["metadata"]["annotations"] = tokens.put(policy, f"if {value}")


@dataclass(frozen=True)
class Switches(Binding):
    """Leaves objects out, unless the value is true.

    Attributes:
        target: The objects.
        helper: A named template that returns a text if the objects exist. Empty if the value itself says so.
    """

    target: str
    helper: str = ""

    @override
    def applies_to(self, manifest: Manifest) -> bool:
        return fnmatchcase(name_of(manifest), self.target)

    @override
    def apply(self, manifest: Manifest, value: str, tokens: Tokens) -> None:
        pass

    @override
    def condition(self, value: str) -> str:
        return f'include "{self.helper}" .' if self.helper else value


@dataclass(frozen=True)
class Of:
    """Names the object of a group of values.

    Attributes:
        target: What bindings of the group without a target apply to.
    """

    target: str


@dataclass(frozen=True)
class ReadBy:
    """A value that a named template or a check of the chart reads.

    Attributes:
        file: The file below `templates/` that reads it, where `text` is how.
    """

    file: str
    text: str


def _parent(manifest: Manifest, path: str) -> tuple[Any, Any]:
    """Return the map or list that has a field, and the key or index in it.

    Raises:
        SourceError: The manifest has no such map or list.
    """
    steps: list[str] = _STEP.findall(path)
    here: Any = manifest
    try:
        for step in steps[:-1]:
            here = here[_key(here, step)]
        return here, _key(here, steps[-1])
    except (KeyError, IndexError, StopIteration, TypeError) as error:
        raise SourceError(f"{name_of(manifest)} has no {path}") from error


def _key(here: Any, step: str) -> Any:
    selection = _SELECTION.fullmatch(step)
    if selection is None:
        return int(step) if isinstance(here, list) else step
    name, wanted = selection.groups()
    return next(index for index, one in enumerate(here) if one[name] == wanted)
