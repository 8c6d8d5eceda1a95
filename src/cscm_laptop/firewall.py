"""Firewall rules that keep build steps from link-local addresses, loopback and other containers.

Build steps are on the engine's default bridge. The engine itself isolates them from its other networks, but not from
addresses that the host forwards to, such as a cloud's metadata service. Only root can set these rules.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from supply_chain.adapters.process.command import run
from supply_chain.model.image import Model

BRIDGE = "docker0"
COMMENT = ("-m", "comment", "--comment")
PLACES = ("/usr/sbin", "/sbin", "/usr/bin")
TIMEOUT = 30.0
ADDRESSES = Path("/proc/net/if_inet6")
"""The machine's IPv6 addresses (Linux, net/ipv6/addrconf.c): address, index, prefix, scope, flags, interface."""
LINK_LOCAL = "20"
"""The scope of link-local addresses, which every interface has; without another address, steps have no IPv6."""


class FirewallRule(Model):
    """A rule of iptables(8) for traffic that comes from the bridge of the build steps."""

    table: str
    chain: str
    match: tuple[str, ...]
    why: str

    def words(self, bridge: str) -> list[str]:
        """Return the rule's arguments for iptables, to follow the action (such as `-I`)."""
        return [self.chain, "-i", bridge, *(bridge if each == "BRIDGE" else each for each in self.match)]


RULES = (
    # table raw is before address translation, which replaces destinations on loopback or behind a link-local address
    FirewallRule(table="raw", chain="PREROUTING", match=("-d", "169.254.0.0/16"), why="link-local addresses"),
    FirewallRule(table="raw", chain="PREROUTING", match=("-d", "127.0.0.0/8"), why="the host's loopback"),
    FirewallRule(table="filter", chain="DOCKER-USER", match=("-o", "br-+"), why="other networks of the engine"),
    FirewallRule(table="filter", chain="DOCKER-USER", match=("-o", "BRIDGE"), why="other build steps"),
)
"""Rules that drop traffic from build steps; the engine names the bridge of a network `br-` plus the start of its id."""


def has_ipv6(bridge: str = BRIDGE, addresses: Path = ADDRESSES) -> bool:
    """Return whether build steps have IPv6 addresses, for which there are no rules."""
    lines = addresses.read_text().split("\n") if addresses.exists() else []
    found = (line.split() for line in lines if line)
    return any(interface == bridge and scope != LINK_LOCAL for _, _, _, scope, _, interface in found)


def find_iptables() -> str | None:
    """Return the path of iptables; look also in directories that are only in an administrator's PATH."""
    return shutil.which("iptables", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES]))


def missing_rules(owner: str, bridge: str = BRIDGE) -> list[FirewallRule]:
    """Return the owner's rules that are not set; all of them if there is no iptables or this user may not use it."""
    return [rule for rule in RULES if not run_iptables("-C", rule, owner, bridge)]


def set_rules(owner: str, bridge: str = BRIDGE) -> list[FirewallRule]:
    """Set the owner's rules that are missing; return those that could not be set.

    Each supply chain on a machine has its own rules, so that removing those of one leaves those of the others.
    """
    return [rule for rule in missing_rules(owner, bridge) if not run_iptables("-I", rule, owner, bridge)]


def remove_rules(owner: str, bridge: str = BRIDGE) -> None:
    """Remove the owner's rules, however often each is set."""
    for rule in RULES:
        while run_iptables("-D", rule, owner, bridge):
            pass


def commands(owner: str, bridge: str = BRIDGE) -> str:
    """Return one command line that sets all rules of an owner once, for a user who may use sudo."""
    return " && ".join(shlex.join(["sudo", "iptables", *_arguments("-I", rule, owner, bridge)]) for rule in RULES)


def _arguments(action: str, rule: FirewallRule, owner: str, bridge: str) -> list[str]:
    words = ["--wait", "10", "--table", rule.table, action, *rule.words(bridge), *COMMENT, f"cscm-{owner}"]
    return [*words, "--jump", "DROP"]


def run_iptables(action: str, rule: FirewallRule, owner: str, bridge: str = BRIDGE) -> bool:
    """Check (-C), insert (-I) or delete (-D) one rule; return whether that succeeded."""
    program = find_iptables()
    if program is None:
        return False
    return (
        run([program, *_arguments(action, rule, owner, bridge)], name="iptables", timeout=TIMEOUT, quiet=True).status
        == 0
    )
