"""The rules that keep build steps from where they have no business: link-local addresses, loopback, other containers.

Build steps are on the engine's default bridge. The engine's own isolation keeps them from other networks of its own,
but for addresses that the host forwards to, such as a cloud's metadata service. Only root can set these rules.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from supply_chain.adapters.process.command import run
from supply_chain.model.image import Frozen

BRIDGE = "docker0"
COMMENT = ("-m", "comment", "--comment")
PLACES = ("/usr/sbin", "/sbin", "/usr/bin")
TIMEOUT = 30.0
ADDRESSES = Path("/proc/net/if_inet6")
"""The machine's IPv6 addresses (Linux, net/ipv6/addrconf.c): address, index, prefix, scope, flags, interface."""
LINK_LOCAL = "20"
"""The scope of an address that every interface has; steps on a bridge without another have no IPv6 at all."""


class FirewallRule(Frozen):
    """A rule of iptables(8) for what comes from the build steps' bridge."""

    table: str
    chain: str
    match: tuple[str, ...]
    why: str

    def words(self, bridge: str) -> list[str]:
        """Return the rule as iptables wants it, after the word that says what to do with it."""
        return [self.chain, "-i", bridge, *(bridge if each == "BRIDGE" else each for each in self.match)]


RULES = (
    # before anything is translated: what leads to loopback or to an agent behind a link-local address is gone by then
    FirewallRule(table="raw", chain="PREROUTING", match=("-d", "169.254.0.0/16"), why="link-local addresses"),
    FirewallRule(table="raw", chain="PREROUTING", match=("-d", "127.0.0.0/8"), why="the host's loopback"),
    FirewallRule(table="filter", chain="DOCKER-USER", match=("-o", "br-+"), why="other networks of the engine"),
    FirewallRule(table="filter", chain="DOCKER-USER", match=("-o", "BRIDGE"), why="other build steps"),
)
"""A bridge that the engine makes for a network is called `br-` and the beginning of the network's id."""


def has_ipv6(bridge: str = BRIDGE, addresses: Path = ADDRESSES) -> bool:
    """Return whether build steps have IPv6 addresses, for which there are no rules."""
    lines = addresses.read_text().split("\n") if addresses.exists() else []
    found = (line.split() for line in lines if line)
    return any(interface == bridge and scope != LINK_LOCAL for _, _, _, scope, _, interface in found)


def find_iptables() -> str | None:
    """Return where iptables is, also for a user whose PATH leaves out the administrator's programs."""
    return shutil.which("iptables", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES]))


def missing_rules(owner: str, bridge: str = BRIDGE) -> list[FirewallRule]:
    """Return the owner's rules that are not set; all where there is no iptables, or this user may not ask."""
    return [rule for rule in RULES if not run_iptables("-C", rule, owner, bridge)]


def set_rules(owner: str, bridge: str = BRIDGE) -> list[FirewallRule]:
    """Set the owner's rules that are missing; return those that could not be set.

    Each supply chain on a machine has rules of its own, so that the end of one leaves those of the others.
    """
    return [rule for rule in missing_rules(owner, bridge) if not run_iptables("-I", rule, owner, bridge)]


def remove_rules(owner: str, bridge: str = BRIDGE) -> None:
    """Remove the owner's rules, however often they are set."""
    for rule in RULES:
        while run_iptables("-D", rule, owner, bridge):
            pass


def commands(owner: str, bridge: str = BRIDGE) -> str:
    """Return what somebody types who may become root, in one line, to set all rules of an owner once."""
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
