"""`python -m tools.model_members [--check]`: write the members of bodies for models, or say that they have drifted."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.model_members.members import generate

MODULE = Path(__file__).parents[2] / "operator" / "interlock_guard" / "decision" / "sdk_members.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where the generated module is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.model_members", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the module differs")
    chosen = parser.parse_args(arguments)
    wanted = generate()
    if wanted == MODULE.read_text(encoding="utf-8"):
        return 0
    if chosen.check:
        sys.stderr.write(f"{MODULE.name} is not what the pinned SDKs say: run `make members` and review what is new\n")
        return 1
    MODULE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
