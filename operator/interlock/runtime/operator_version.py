"""The version of the operator as a digest: of the code and the settings that pod templates depend on.

The number of a version would not do: another build of the same version, or another setting, may write other templates.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import interlock
import interlock_contract
from interlock.settings import OperatorSettings

_OF_THE_PROCESS: Final = {
    *("kubeconfig", "telemetry_port", "watch_late_seconds", "workers", "log_level", "guard_wave_percent", "namespace"),
    *("key_file", "price_book", "prometheus", "budget_day_seconds"),
}
"""Settings that no pod of an agent depends on, or not by its template."""


def digest_version(settings: OperatorSettings) -> str:
    """Return the SHA-256, in hex, of the code of the operator and of its settings."""
    text = settings.model_dump_json(exclude=_OF_THE_PROCESS)
    return hashlib.sha256(f"{_digest_code()} {text}".encode()).hexdigest()


@cache
def _digest_code() -> str:
    digest = hashlib.sha256()
    for package in (interlock, interlock_contract):
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{root.name}/{file.relative_to(root)}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
