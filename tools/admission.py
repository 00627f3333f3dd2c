"""`python -m tools.admission [--check]`: write the digests of the admission policies, or say that they have drifted.

The operator compares them with the policies that the API server has.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from interlock.cluster.admission_policies import DIGESTS_FILE, KINDS, digest_policy
from tools.generated import write_or_check

MANIFESTS = Path(__file__).parents[1] / "manifests" / "admission"


def policies() -> Iterator[dict[str, Any]]:
    """Yield the manifest of each policy and binding."""
    kinds = {kind.kind for kind in KINDS}
    for path in sorted(MANIFESTS.glob("*.yaml")):
        for found in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader):
            if found and found["kind"] in kinds:
                yield found


def generate() -> str:
    """Return the file's text."""
    digests: dict[str, dict[str, str]] = {kind.kind: {} for kind in KINDS}
    for found in policies():
        digests[found["kind"]][found["metadata"]["name"]] = digest_policy(found)
    return json.dumps(digests, indent=1, sort_keys=True) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where the file is not as it should be."""
    advice = "lacks policies of manifests/admission: run `make policies`"
    return write_or_check(
        arguments,
        command="python -m tools.admission",
        description=__doc__,
        path=DIGESTS_FILE,
        wanted=generate(),
        advice=advice,
    )


if __name__ == "__main__":
    sys.exit(main())
