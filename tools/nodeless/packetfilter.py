"""iptables and nftables: what was there before an engine, and deleting only what it added."""

import ipaddress
import itertools
import json
from collections.abc import Sequence

from tools.machine.process import CommandFailedError, run, succeeds

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

COMMANDS = ("iptables", "ip6tables")
CHAIN_PREFIX = "DOCKER"
"""How the engine names every chain of its own."""
NFT_PREFIX = "docker-"
"""How it names its tables, where it uses nftables itself."""


def rules(command: str) -> dict[str, list[str]]:
    """Return chains and rules by table, as COMMAND-save prints them, without counters."""
    try:
        return parse(run([f"{command}-save"], timeout=30))
    except CommandFailedError:
        return {}


def parse(text: str) -> dict[str, list[str]]:
    """Return tables and their lines, parsed from iptables-save's format."""
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("*"):
            lines = tables.setdefault(line[1:], [])
        elif line.startswith(":"):
            lines.append(" ".join(line.split()[:2]))
        elif line.startswith("-A "):
            lines.append(line)
    return tables


def removal(before: dict[str, list[str]], now: dict[str, list[str]], bridge: str, *, chains: bool = True) -> str:
    """Return the iptables-restore input that removes what the engine added and nothing else.

    Args:
        before: the tables before it came.
        now: the tables now.
        bridge: its bridge, which its rules name.
        chains: also its chains and the rules that lead into them; not while another engine uses the same.
    """
    script: list[str] = []
    for table, lines in now.items():
        old = list(before.get(table, []))
        new = []
        for line in lines:
            if line in old:
                old.remove(line)
            else:
                new.append(line)
        own_chains = [line[1:].split()[0] for line in new if chains and line.startswith(f":{CHAIN_PREFIX}")]
        added = [line for line in new if line.startswith("-A ")]
        subnets = _subnets(added, bridge)
        doomed = [line for line in added if _names(line, bridge, chains=chains) or _is_within(line, subnets)]
        outside = [line for line in doomed if line.split()[1] not in own_chains]
        if not own_chains and not outside:
            continue
        script.append(f"*{table}")
        script += [f"-D{line[2:]}" for line in outside]
        script += [f"-F {chain}" for chain in own_chains]
        script += [f"-X {chain}" for chain in own_chains]
        script.append("COMMIT")
    return "".join(f"{line}\n" for line in script)


def without_leftovers(before: dict[str, list[str]], bridge: str) -> dict[str, list[str]]:
    """Return the tables without the leftovers of an earlier engine of ours that was not cleaned up.

    The bridge's name is ours alone. Chains of the engine's are ours as well where they speak of no other bridge.
    """
    lines = list(itertools.chain.from_iterable(before.values()))
    if not any(bridge in line.split() for line in lines):
        return before
    chains = not any(_is_of_another_bridge(line, bridge) for line in lines)
    return {
        table: [line for line in kept if not (_names(line, bridge, chains=chains) or (chains and _is_chain(line)))]
        for table, kept in before.items()
    }


def _is_chain(line: str) -> bool:
    return line.startswith(f":{CHAIN_PREFIX}")


def _is_of_another_bridge(line: str, bridge: str) -> bool:
    """Return True if a rule of an engine's chains speaks of a device that is not our bridge."""
    words = line.split()
    if not line.startswith(f"-A {CHAIN_PREFIX}"):
        return False
    devices = [word for option, word in itertools.pairwise(words) if option in {"-i", "-o"}]
    return any(device != bridge for device in devices)


def _names(rule: str, bridge: str, *, chains: bool) -> bool:
    words = rule.split()
    return bridge in words or (chains and any(word.startswith(CHAIN_PREFIX) for word in words[1:]))


def _addresses(rule: str) -> list[Network]:
    words = rule.split()
    found = [word for option, word in itertools.pairwise(words) if option in {"-s", "-d"}]
    return [ipaddress.ip_network(word, strict=False) for word in found]


def _subnets(rules: Sequence[str], bridge: str) -> list[Network]:
    """Return the bridge's subnets: those whose packets are masqueraded when they leave by another device."""
    wanted = f"! -o {bridge} -j MASQUERADE"
    return [network for rule in rules if rule.endswith(wanted) for network in _addresses(rule)]


def _is_within(rule: str, subnets: Sequence[Network]) -> bool:
    """Return True if all addresses in the rule are containers of ours: a published port's rule names no device."""
    found = _addresses(rule)
    return bool(found) and all(
        any(address.version == subnet.version and address.subnet_of(subnet) for subnet in subnets)  # type: ignore[arg-type]
        for address in found
    )


def nft_tables() -> list[str]:
    """Return every nftables table as "family name"."""
    try:
        listed = json.loads(run(["nft", "-j", "list", "tables"], timeout=30))
    except (CommandFailedError, ValueError):
        return []
    tables = [item["table"] for item in listed.get("nftables", []) if "table" in item]
    return [f"{table['family']} {table['name']}" for table in tables]


def remove_ours(
    before: dict[str, dict[str, list[str]]], tables_before: Sequence[str], bridge: str, *, chains: bool
) -> None:
    """Delete the engine's rules and chains, and tables that came with them and are empty now."""
    for command in COMMANDS:
        known = without_leftovers(before.get(command, {}), bridge)
        script = removal(known, rules(command), bridge, chains=chains)
        if script:
            run([f"{command}-restore", "--noflush"], stdin=script.encode(), timeout=30)
    for table in nft_tables() if chains else []:
        if table in tables_before:
            continue
        if table.split()[1].startswith(NFT_PREFIX) or _is_empty(table):
            succeeds(["nft", "delete", "table", *table.split()])


def _is_empty(table: str) -> bool:
    try:
        listed = json.loads(run(["nft", "-j", "list", "table", *table.split()], timeout=30))
    except (CommandFailedError, ValueError):
        return False
    return not any({"rule", "set", "map", "element"} & item.keys() for item in listed.get("nftables", []))
