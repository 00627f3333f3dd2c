"""Which kube contexts are ours: tests, benchmarks and the demo touch no other."""

import re
from pathlib import Path

from tools.machine.errors import ClusterError

PREFIX = "interlock"
_NAME = re.compile(rf"{PREFIX}(-[a-z0-9]+)*")
_CONTEXT = re.compile(rf"(kind|kwok)-{_NAME.pattern}")
_CURRENT = re.compile(r"^current-context:\s*[\"']?([^\s\"']*)", re.MULTILINE)


class ForeignContextError(ClusterError):
    """A context that is not ours was about to be used."""


def is_ours(context: str) -> bool:
    """Return True if the name is one that only our own clusters have: kind-interlock..., kwok-interlock..."""
    return _CONTEXT.fullmatch(context) is not None


def check_name(name: str) -> str:
    """Return the cluster's name.

    Raises:
        ForeignContextError: it does not begin with our prefix.
    """
    if _NAME.fullmatch(name) is None:
        raise ForeignContextError(
            f"cluster name {name!r} is not one of ours; use {PREFIX!r} or a name like {PREFIX + '-two'!r}"
        )
    return name


def check_context(context: str) -> str:
    """Return the context.

    Raises:
        ForeignContextError: it is not ours.
    """
    if not is_ours(context):
        raise ForeignContextError(
            f"kube context {context!r} is not one of Interlock's own clusters (kind-{PREFIX}..., kwok-{PREFIX}...); "
            "nothing was done. `python -m tools.cluster env` prints the settings that lead to one."
        )
    return context


def check_kubeconfig(path: Path) -> str:
    """Return the file's current context.

    Raises:
        ForeignContextError: it has none, or one that is not ours.
    """
    try:
        found = _CURRENT.search(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ForeignContextError(f"kubeconfig {path} cannot be read: {error}") from error
    return check_context(found.group(1) if found else "")
