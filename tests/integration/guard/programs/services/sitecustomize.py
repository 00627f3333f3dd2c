"""Makes every Service of a cluster an address of this machine, for a process that has this folder on its path.

`SERVICE_ADDRESSES` names others than 127.0.0.1, as a headless Service has one for each pod.
"""

import os
from typing import Any

from aiohttp.resolver import ThreadedResolver

_resolve = ThreadedResolver.resolve


async def _resolve_here(self: ThreadedResolver, host: str, *more: Any, **options: Any) -> Any:
    if not host.endswith(".svc"):
        return await _resolve(self, host, *more, **options)
    addresses = os.environ.get("SERVICE_ADDRESSES", "127.0.0.1").split()
    return [found for one in addresses for found in await _resolve(self, one, *more, **options)]


ThreadedResolver.resolve = _resolve_here  # type: ignore[method-assign]
