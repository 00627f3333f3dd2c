"""Make the examples' programs importable; they lie in folders of their own, as their images have them."""

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
sys.path += [str(EXAMPLES / "agent"), str(EXAMPLES / "crm-server")]
