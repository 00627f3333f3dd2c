"""A file that a command of `tools` generates: written, or with `--check` only compared."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def write_or_check(
    arguments: Sequence[str] | None, *, command: str, description: str | None, path: Path, wanted: str, advice: str
) -> int:
    """Run a command that generates one file; return its exit code, 1 where `--check` finds a difference.

    Args:
        arguments: The arguments of the command; None for those of the process.
        command: How it is called, such as `python -m tools.admission`.
        description: What its help says.
        path: The file.
        wanted: The text that it should have.
        advice: What to say of a file with another text.
    """
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the file differs")
    chosen = parser.parse_args(arguments)
    if path.exists() and wanted == path.read_text(encoding="utf-8"):
        return 0
    if chosen.check:
        sys.stderr.write(f"{path.name} {advice}\n")
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0
