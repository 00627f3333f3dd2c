"""`python -m tools.reference [--check]`: write the generated reference pages, or say which have drifted."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from interlock.deployment.field_classes import table_faults
from tools.reference.pages import metrics_page, reasons_page, settings_page
from tools.reference.pod_template import pod_template_page
from tools.reference.revisions import revisions_page

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[str], str]] = {
    "reasons.md": lambda _: reasons_page(),
    "settings.md": lambda _: settings_page(),
    "metrics.md": metrics_page,
    "revisions.md": lambda _: revisions_page(),
    "pod-template.md": lambda _: pod_template_page(),
}
"""Each page by its name: the function that returns it, of the page as it is."""


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Run the command; 1 where a page is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page differs")
    chosen = parser.parse_args(arguments)
    faults = table_faults()
    if faults:
        sys.stderr.writelines(f"{fault}\n" for fault in faults)
        return 1
    present = {name: (folder / name).read_text(encoding="utf-8") if (folder / name).exists() else "" for name in PAGES}
    wanted = {folder / name: render(present[name]) for name, render in PAGES.items()}
    drifted = [path for path, text in wanted.items() if present[path.name] != text]
    for path in drifted:
        if not chosen.check:
            path.write_text(wanted[path], encoding="utf-8")
    if chosen.check:
        sys.stderr.writelines(f"{path.name} is not what the code says: run `make docs`\n" for path in drifted)
    return 1 if chosen.check and drifted else 0


if __name__ == "__main__":
    sys.exit(main())
