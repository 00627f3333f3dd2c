"""The parts of the names of images, as regular expressions that Python, Go and JSON Schema read alike.

They are those of https://github.com/distribution/reference. A node pulls no image of another name, so the charts and
`make release` refuse it.
"""

from typing import Final

_LABEL: Final = "[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_COMPONENT: Final = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"

REGISTRY: Final = rf"({_LABEL}(\.{_LABEL})*|\[[0-9a-fA-F:]+\])(:[0-9]{{1,5}})?(/{_COMPONENT})*"
"""A registry: host, port and path, without a scheme."""
REPOSITORY: Final = rf"{_COMPONENT}(/{_COMPONENT})*"
"""The name of an image after the registry."""
TAG: Final = r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}"
"""The tag of an image."""
