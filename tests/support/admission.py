"""Words of an API server about admission policies that it cannot evaluate yet."""

from typing import Final

UNCONFIGURED: Final = "failed to configure "
"""Part of a refusal while the parameters of a policy were not read yet ("not yet synced to use for admission", for some
seconds after an installation on a busy machine), or do not exist ("no params found")."""
