"""`python -m tools.site [FOLDER]`: build the site of the pages."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.machine.errors import UnavailableError
from tools.machine.settings import from_environment
from tools.site.check import faults_of
from tools.site.mermaid import find_mermaid
from tools.site.source import Source

ROOT: Final = Path(__file__).parents[2]
SITE: Final = ROOT / "build" / "site"
CONFIGURATION: Final = Path(__file__).parent
"""The folder of conf.py, and of the files of the site that are no pages."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where the site has faults."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SITE, help="where the site is written")
    chosen = parser.parse_args(arguments)
    try:
        mermaid = find_mermaid(from_environment())
    except UnavailableError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    faults = build(ROOT, chosen.folder, mermaid)
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    if not faults:
        print(f"site: open {chosen.folder / 'index.html'}")
    return 1 if faults else 0


def build(root: Path, site: Path, mermaid: Path) -> list[str]:
    """Build the site of a repository; return its faults.

    Args:
        root: The repository.
        site: Where the site is written. It is replaced.
        mermaid: The library for diagrams.
    """
    source = site.with_name(f"{site.name}-source")
    Source(root, source).write()
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--builder", "html"]
    ended = subprocess.run([*command, "-c", CONFIGURATION, "-d", f"{source}-trees", source, site], check=False)
    if ended.returncode:
        return [f"Sphinx ended with {ended.returncode}: its warnings are above"]
    shutil.copyfile(mermaid, site / "_static" / "mermaid.min.js")
    return list(faults_of(site))


if __name__ == "__main__":
    sys.exit(main())
