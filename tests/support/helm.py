"""Helm for the cluster of a test, with nothing of the user's own configuration."""

from dataclasses import dataclass
from pathlib import Path

from tools.cluster import programs
from tools.machine.process import run
from tools.machine.settings import from_environment

NAMESPACE = "interlock-system"


def home_variables(folder: Path) -> dict[str, str]:
    """Return the environment variables with which Helm has all its own files in a folder."""
    return {f"HELM_{name}_HOME": str(folder) for name in ("CACHE", "CONFIG", "DATA")}


@dataclass(frozen=True)
class Helm:
    """Helm in the namespace of the installation.

    Attributes:
        kubeconfig: Of the cluster.
        context: The one in it.
        home: A folder for Helm's own files.
    """

    kubeconfig: Path
    context: str
    home: Path

    def __call__(self, *arguments: str | Path) -> str:
        """Run one command; return what it printed.

        Raises:
            CommandFailedError: Helm refused.
        """
        at = ["--kubeconfig", str(self.kubeconfig), "--kube-context", self.context, "-n", NAMESPACE]
        program = programs.ensure(from_environment(), ["helm"])["helm"]
        return run([program, *arguments, *at], env=home_variables(self.home), timeout=180)
