"""The version of Interlock, in its only place: packages, charts, images and what programs call themselves follow it."""

from typing import Final

VERSION: Final = "0.1.0"
"""As in semantic versioning, without a `v`."""
