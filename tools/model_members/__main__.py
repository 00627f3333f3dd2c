"""`python -m tools.model_members [--check]`: write the members of bodies for models, or say that they have drifted."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tools.generated import write_or_check
from tools.model_members.members import generate

MODULE = Path(__file__).parents[2] / "operator" / "interlock_guard" / "decision" / "sdk_members.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where the generated module is not as it should be."""
    advice = "is not what the pinned SDKs say: run `make members` and review what is new"
    return write_or_check(
        arguments,
        command="python -m tools.model_members",
        description=__doc__,
        path=MODULE,
        wanted=generate(),
        advice=advice,
    )


if __name__ == "__main__":
    sys.exit(main())
