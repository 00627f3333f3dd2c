"""`python -m interlock_guard`: the guard, or with `verify` or `pipes` the verifier (`verification.program`).

Each program is loaded only when it runs, and without the certificate authorities that aiohttp loads when it is
imported. Every connection of the guard has its own context, and each agent has a guard, so memory counts.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvloop

from interlock_guard.log import log

_AUTHORITIES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Where OpenSSL looks for what is trusted by default."""


def main() -> int:
    """Run the guard, or what the first argument names; return its exit code."""
    match sys.argv[1:]:
        case []:
            return int(load("program").run())
        case ["verify"]:
            return int(uvloop.run(load("verification.program").run(os.environ, log)))
        case ["pipes"]:
            return int(uvloop.run(load("verification.program").make_pipes(os.environ, log)))
        case _:
            log("arguments: none, verify or pipes")
            return 2


def load(module: str) -> Any:
    """Import a module of this package while OpenSSL finds no authorities."""
    with _without_authorities():
        return importlib.import_module(f"interlock_guard.{module}")


@contextmanager
def _without_authorities() -> Iterator[None]:
    before = {name: os.environ[name] for name in _AUTHORITIES if name in os.environ}
    os.environ.update(dict.fromkeys(_AUTHORITIES, os.devnull))
    try:
        yield
    finally:
        for name in _AUTHORITIES:
            del os.environ[name]
        os.environ.update(before)


if __name__ == "__main__":
    sys.exit(main())
