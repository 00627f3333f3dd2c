"""Stands in for runc where the engine itself lacks CAP_SYS_RESOURCE.

Takes that capability, resource limits and oom scores below its own out of every container (create, run) and every
process (exec) it is asked to start, then becomes runc. Run as a script by the private engine; standard library only,
since it starts before every process of every container.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CAPABILITY = "CAP_SYS_RESOURCE"
CAPABILITY_BIT = 24


def is_needed(status: str | None = None) -> bool:
    """Return True if this machine's root lacks the capability (status: the text of /proc/self/status)."""
    text = status if status is not None else Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line.split()[1] for line in text.splitlines() if line.startswith("CapEff:"))
    return not int(effective, 16) >> CAPABILITY_BIT & 1


def spec_file(arguments: Sequence[str]) -> tuple[Path, bool] | None:
    """Return the file that describes the container for runc, and whether that is a whole container."""
    words = list(arguments)
    verb = next((word for word in words if word in {"create", "run", "restore", "exec"}), None)
    if verb is None:
        return None
    names = ("--process", "-p") if verb == "exec" else ("--bundle", "-b")
    value = None
    for index, word in enumerate(words):
        if word in names and index + 1 < len(words):
            value = words[index + 1]
        elif word.startswith(names[0] + "="):
            value = word.split("=", 1)[1]
    if value is None:
        return None
    return (Path(value), False) if verb == "exec" else (Path(value) / "config.json", True)


def without_capability(process: dict[str, Any], own_score: int) -> dict[str, Any]:
    """Return the process description without the capabilities that the engine may not give."""
    changed = {key: value for key, value in process.items() if key != "rlimits"}
    if changed.get("capabilities"):
        changed["capabilities"] = {
            kind: [name for name in names or [] if name != CAPABILITY]
            for kind, names in changed["capabilities"].items()
        }
    if changed.get("oomScoreAdj") is not None:
        changed["oomScoreAdj"] = max(changed["oomScoreAdj"], own_score)
    return changed


def adapt(file: Path, *, whole: bool, own_score: int) -> None:
    """Rewrite the description in its file."""
    spec = json.loads(file.read_bytes())
    if whole:
        spec["process"] = without_capability(spec["process"], own_score)
    else:
        spec = without_capability(spec, own_score)
    file.write_text(json.dumps(spec), encoding="utf-8")


def main() -> None:
    """Adapt the description of the container and become runc."""
    found = spec_file(sys.argv[1:])
    if found is not None and found[0].is_file():
        own_score = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
        adapt(found[0], whole=found[1], own_score=own_score)
    runc = shutil.which("runc") or "/usr/sbin/runc"
    os.execv(runc, [runc, *sys.argv[1:]])  # noqa: S606 - becoming runc is the purpose


if __name__ == "__main__":
    main()
