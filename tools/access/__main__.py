"""`python -m tools.access [--check]`: write the access tables of the examples' pages, or say which have drifted."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.access.tables import Examples, PageInvalidError

EXAMPLES = Path(__file__).parents[2] / "examples"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where a page is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.access", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page differs")
    chosen = parser.parse_args(arguments)
    examples = Examples(EXAMPLES)
    drifted = []
    for page in examples.pages():
        try:
            wanted = examples.rendered(page)
        except PageInvalidError as error:
            drifted.append(str(error))
            continue
        if wanted == page.read_text(encoding="utf-8"):
            continue
        if chosen.check:
            drifted.append(f"{page}: its access table is not what decide answers: run `make docs`")
        else:
            page.write_text(wanted, encoding="utf-8")
    sys.stderr.writelines(f"{line}\n" for line in drifted)
    return 1 if drifted else 0


if __name__ == "__main__":
    sys.exit(main())
