"""`python -m tools.cluster`: clusters up and down, and what they are made of."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.cluster import engine, images, kind, kwok, programs
from tools.cluster.kwok import KwokOptions
from tools.machine.errors import ClusterError
from tools.machine.process import say
from tools.machine.settings import Settings, from_environment
from tools.nodeless import footprint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 1 after one readable message if it fails."""
    chosen = _parser().parse_args(arguments)
    try:
        chosen.run(chosen, from_environment())
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped. Finished steps are kept: run the same command again to continue.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", help="have a kind cluster: real pods")
    command.add_argument("--name", help="interlock or interlock-... (default: INTERLOCK_CLUSTER, or interlock)")
    command.add_argument("--config", type=Path, help="a kind configuration (default: kind-config.yaml)")
    command.set_defaults(run=_up)

    command = commands.add_parser("down", help="delete kind clusters; end the private engine after the last one")
    command.add_argument(
        "--name", action="append", help="only this one, may be repeated (default: INTERLOCK_CLUSTER, or all of ours)"
    )
    command.set_defaults(run=_down)

    command = commands.add_parser("status", help="say which engine and clusters there are")
    command.set_defaults(run=_status)

    command = commands.add_parser("env", help='print settings for a shell: eval "$(python -m tools.cluster env)"')
    command.add_argument("--name", help="the kind cluster (default: INTERLOCK_CLUSTER, or interlock)")
    command.add_argument(
        "--with", dest="further", action="append", default=[], metavar="PROGRAM", help="one more, such as helm"
    )
    command.set_defaults(run=_env)

    command = commands.add_parser("images", help="build our images where they changed and put them into the cluster")
    command.add_argument("names", nargs="*", help="only these: operator, guard, example-crm, ... (default: all)")
    command.add_argument("--name", help="the kind cluster (default: INTERLOCK_CLUSTER, or interlock)")
    command.set_defaults(run=_images)

    command = commands.add_parser("prune", help="delete all clusters of ours and the whole cache")
    command.set_defaults(run=_prune)

    command = commands.add_parser("kwok-up", help="start a kwok cluster: a real API server, simulated nodes, no root")
    command.add_argument("name", help="interlock or interlock-...")
    command.add_argument("--nodes", type=int, default=1, help="simulated nodes (default: 1)")
    command.add_argument("--audit-policy", type=Path, help="an audit policy file")
    command.add_argument("--feature-gates", default="", help="Name=true,Other=false")
    command.add_argument("--runtime-config", default="", help="api/all=true and the like")
    command.add_argument("--unlimited-qps", action="store_true", help="lift the components' client rate limits")
    command.add_argument("--extra-args", action="append", default=[], help="component=key=value, may be repeated")
    command.set_defaults(run=_kwok_up)

    command = commands.add_parser("kwok-down", help="delete a kwok cluster")
    command.add_argument("name", help="interlock or interlock-...")
    command.set_defaults(run=lambda chosen, settings: kwok.delete(chosen.name, settings))

    command = commands.add_parser("programs", help="have the programs ready: download or build what is missing")
    command.add_argument("names", nargs="*", help="only these (default: those of kwok and kind)")
    command.set_defaults(run=_programs)
    return parser


def _name(chosen: argparse.Namespace, settings: Settings) -> str:
    return str(chosen.name or settings.cluster or kind.DEFAULT_NAME)


def _up(chosen: argparse.Namespace, settings: Settings) -> None:
    name = _name(chosen, settings)
    kind.ensure(name, chosen.config, settings)
    option = f" --name {name}" if chosen.name else ""
    print(f'to use it: eval "$(python -m tools.cluster env{option})"')


def _down(chosen: argparse.Namespace, settings: Settings) -> None:
    kwok.delete_stale(settings)
    kind.down(chosen.name or (settings.cluster and [settings.cluster]), settings)


def _status(_: argparse.Namespace, settings: Settings) -> None:
    docker = engine.running(settings)
    if docker is None:
        print(f"engine: none ({engine.impossible(settings) or 'one is started when it is needed'})")
    else:
        print(f"engine: {'private' if docker.is_private else 'existing'}")
        for name in kind.names(docker):
            cluster = kind.find(name, settings)
            broken = "created elsewhere or broken. Run: python -m tools.cluster up"
            print(f"kind {name}: {cluster.kubeconfig if cluster else broken}")
    for name in kwok.names(settings):
        print(f"kwok {name}")
    print(f"cache: {settings.cache}")


def _env(chosen: argparse.Namespace, settings: Settings) -> None:
    name = _name(chosen, settings)
    cluster = kind.find(name, settings)
    if cluster is None:
        raise ClusterError(f"there is no kind cluster {name}. Run: python -m tools.cluster up")
    values = {
        **cluster.engine.environment,
        "KUBECONFIG": str(cluster.kubeconfig),
        "KUBECACHEDIR": str(cluster.kubeconfig.parent / "kubectl-cache"),
    }
    folders = [cluster.kubectl.parent, *(path.parent for path in _ensured(settings, chosen.further).values())]
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(os.pathsep.join(map(str, folders)))}:"$PATH"')


def _images(chosen: argparse.Namespace, settings: Settings) -> None:
    name = _name(chosen, settings)
    cluster = kind.find(name, settings)
    if cluster is not None:
        images.ensure_on(cluster, chosen.names)
    else:
        images.ensure(engine.ensure(settings), settings, chosen.names)
        say(f"images: built; there is no kind cluster {name} to put them into")


def _prune(_: argparse.Namespace, settings: Settings) -> None:
    for name in kwok.names(settings):
        kwok.delete(name, settings)
    kind.down(None, settings)
    footprint.unmount(settings.cache)
    shutil.rmtree(settings.cache, ignore_errors=True)
    if settings.cache.exists():
        raise ClusterError(f"some of {settings.cache} belongs to another user and is still there")


def _kwok_up(chosen: argparse.Namespace, settings: Settings) -> None:
    options = KwokOptions(
        nodes=chosen.nodes,
        audit_policy=chosen.audit_policy,
        feature_gates=chosen.feature_gates,
        runtime_config=chosen.runtime_config,
        unlimited_qps=chosen.unlimited_qps,
        extra_args=chosen.extra_args,
        owned=False,
    )
    cluster = kwok.create(chosen.name, options, settings)
    print(f"export KUBECONFIG={cluster.kubeconfig} PATH={cluster.kubectl.parent}:$PATH")


def _programs(chosen: argparse.Namespace, settings: Settings) -> None:
    for name, path in _ensured(settings, chosen.names or [*programs.KWOK, *programs.KIND]).items():
        print(f"{name}={path}")


def _ensured(settings: Settings, names: Sequence[str]) -> dict[str, Path]:
    """Have programs ready; refuse names that no program has."""
    known = {program.name for program in programs.all_programs()}
    if unknown := sorted(set(names) - known):
        raise ClusterError(f"no such program: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    return programs.ensure(settings, names)


if __name__ == "__main__":
    sys.exit(main())
