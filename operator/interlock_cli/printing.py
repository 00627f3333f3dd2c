"""The YAML of bindings, with comments on guesses, left out settings and the Secret to create first."""

import textwrap
from typing import Any

import yaml

from interlock_cli.binding import Imported

_WIDTH = 110


def print_bindings(imported: list[Imported]) -> str:
    """Return one YAML document for each binding."""
    return "".join(f"---\n{_document(one)}" for one in imported)


def _document(imported: Imported) -> str:
    manifest = imported.manifest
    spec = dict(manifest["spec"])
    tools, permissions = spec.pop("tools"), spec.pop("permissions")
    text = _comments(imported) + _dump({**manifest, "spec": spec})
    return f"{text}{_tools(tools, imported)}{_indented(_dump({'permissions': permissions}))}"


def _tools(tools: list[dict[str, Any]], imported: Imported) -> str:
    if not tools:
        return "  tools: []\n"
    lines = [
        f"  - {dump_flow(tool)}  # {guess.reason}\n" for tool, guess in zip(tools, imported.guesses.tools, strict=True)
    ]
    return "  tools:  # guessed: review each line\n" + "".join(lines)


def _comments(imported: Imported) -> str:
    notes = list(imported.notes)
    if imported.guesses.tools:
        notes.append(
            "the tools are guesses: review each of them, then remove the annotation interlock.dev/needs-review; until "
            "then no agent gets this binding"
        )
    else:
        notes.append("no tool is mapped, so none can be called: use --tools with the server's answer to tools/list")
    if imported.guesses.left_out:
        notes.append(
            f"left out, because a map cannot have tools with such names: {', '.join(imported.guesses.left_out)}"
        )
    if not imported.manifest["spec"]["permissions"]:
        notes.append("the file permits nothing, so the binding permits nothing: write permissions")
    if imported.kept:
        notes.append(
            f"kept as they are by --keep: {', '.join(imported.kept)}. Anyone who can read the binding can read them"
        )
    return "".join(comment(note) for note in notes) + _secret(imported)


def _secret(imported: Imported) -> str:
    if not imported.secrets.keys:
        return ""
    files = "".join(f" --from-file={key}=FILE" for key in imported.secrets.keys)
    namespace = imported.manifest["metadata"].get("namespace")
    where = f" -n {namespace}" if namespace else ""
    return (
        comment(
            "each value that is or may be a secret is left out. Write each into a file of its own, without a line "
            "break at its end, and run:"
        )
        + f"#     kubectl create secret generic {imported.secrets.name}{where}{files}\n"
        + "".join(comment(f"{key}: {meaning}", "#     ") for key, meaning in imported.secrets.keys.items())
    )


def comment(text: str, indent: str = "# ") -> str:
    """Return text as a comment. Each line is escaped, so no text of a config can end the comment."""
    safe = "".join(sign if " " <= sign <= "~" else "?" for sign in text.encode("ascii", "backslashreplace").decode())
    return textwrap.fill(safe, _WIDTH, initial_indent=indent, subsequent_indent="#   ") + "\n"


def dump_flow(value: Any) -> str:
    """Return a value as YAML in one line, without anything that is not printable ASCII."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, default_flow_style=True, width=10**9)
    return text.removesuffix("...\n").strip()


def _dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=_WIDTH)


def _indented(text: str) -> str:
    return textwrap.indent(text, "  ")
