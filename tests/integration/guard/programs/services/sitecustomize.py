"""Makes every Service of a cluster an address of this machine, for a process that has this folder on its path.

`SERVICE_ADDRESSES` names others than 127.0.0.1, as a headless Service has one for each pod. Those in the file
`SERVICE_ADDRESSES_FILE` may change, and be none.
"""

import os
import socket
from pathlib import Path
from typing import Any

from aiohttp.resolver import ThreadedResolver

_resolve = ThreadedResolver.resolve


def _find_addresses() -> list[str]:
    changing = os.environ.get("SERVICE_ADDRESSES_FILE")
    if changing is None:
        return os.environ.get("SERVICE_ADDRESSES", "127.0.0.1").split()
    return Path(changing).read_text().split()


async def _resolve_here(self: ThreadedResolver, host: str, *more: Any, **options: Any) -> Any:
    if not host.endswith(".svc"):
        return await _resolve(self, host, *more, **options)
    addresses = _find_addresses()
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [found for one in addresses for found in await _resolve(self, one, *more, **options)]


ThreadedResolver.resolve = _resolve_here  # type: ignore[method-assign]
