"""`python -m tools.prices FILE`: write the price book."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from genai_prices.data import providers

from tools.prices.compiler import CompileError, compile_book


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where genai-prices has what the compiler does not know."""
    parser = argparse.ArgumentParser(prog="python -m tools.prices", description=__doc__)
    parser.add_argument("file", type=Path, help="the file to write, such as operator/prices.json")
    file: Path = parser.parse_args(arguments).file
    try:
        book = compile_book(providers)
    except CompileError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # Another process may read the file at this moment.
    part = file.with_suffix(".part")
    part.write_bytes(book)
    part.replace(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
