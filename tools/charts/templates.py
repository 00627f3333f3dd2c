"""The templates of a chart: the objects as YAML, with actions in place of what values set.

Two braces in a text of an object, such as a legend of a dashboard, are escaped.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any, Final

import yaml
from typing_extensions import override

from tools.charts.bindings import Tokens
from tools.charts.leaves import Group
from tools.charts.sources import Manifest, Source, SourceError, name_of

_BRACES: Final = '{{ "{{" }}'
_TOKEN: Final = re.compile(r"INTERLOCK_TOKEN_\d+_")


class _Dumper(yaml.CSafeDumper):
    """Writes texts of several lines as blocks, and no aliases."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        """Return True: each part is written out."""
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def render_source(source: Source, values: Group) -> str:
    """Return the template of one file.

    Args:
        source: The file.
        values: The values of the chart.
    """
    documents = [_render(found, values) for found in source.objects]
    return f"# Generated from {source.path}: do not edit, run `make charts`.\n" + "".join(documents)


def _render(manifest: Manifest, values: Group) -> str:
    changed, tokens = copy.deepcopy(manifest), Tokens()
    conditions = []
    for path, binding in values.effects():
        if binding.applies_to(manifest):
            value = f".Values.{'.'.join(path)}"
            binding.apply(changed, value, tokens)
            conditions.append(binding.condition(value))
    document = "---\n" + fill_in(dump(changed), tokens)
    for condition in filter(None, conditions):
        document = f"{{{{- if {condition} }}}}\n{document}{{{{- end }}}}\n"
    return document


def dump(value: Any) -> str:
    """Return a value as YAML in the blocks that people write."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000)


def fill_in(text: str, tokens: Tokens) -> str:
    """Return a template: YAML in which two braces are escaped, and then tokens are replaced.

    A token whose part depends on an action is alone on its line, next to a key or as an item of a list.
    """
    lines: list[str] = []
    for line in text.replace("{{", _BRACES).splitlines():
        found = _TOKEN.findall(line)
        blocks = [tokens.lines[one][1] for one in found if tokens.lines[one][1]]
        filled = _TOKEN.sub(lambda one: tokens.lines[one[0]][0], line)
        indent = line[: len(line) - len(line.lstrip())]
        opened = [f"{indent}{{{{- {block} }}}}" for block in blocks]
        lines += [*opened, filled, *(f"{indent}{{{{- end }}}}" for _ in blocks)]
    return "\n".join(lines) + "\n"


def check_targets(values: Group, objects: Sequence[Manifest]) -> None:
    """Check that each binding has an object.

    Raises:
        SourceError: A value names an object that the chart does not have.
    """
    for path, binding in values.effects():
        if not any(binding.applies_to(one) for one in objects):
            names = ", ".join(sorted(name_of(one) for one in objects))
            raise SourceError(f"value {'.'.join(path)}: {binding} names none of {names}")
