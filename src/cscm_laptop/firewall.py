"""Firewall rules that keep build steps from link-local addresses, loopback and other containers.

Build steps are on the engine's default bridge. The engine itself isolates them from its other networks, but not from
addresses that the host forwards to, such as a cloud's metadata service. Only root can set these rules.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from supply_chain.adapters.process.command import run
from supply_chain.model.image import Model

BRIDGE = "docker0"
COMMENT = ("-m", "comment", "--comment")
PLACES = ("/usr/sbin", "/sbin", "/usr/bin")
TIMEOUT = 30.0
BRIDGED = "other build steps"
MODULE = "br_netfilter"
SETTING = "net.bridge.bridge-nf-call-iptables=1"
BRIDGED_TRAFFIC = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
"""Whether rules of iptables apply to what stays on a bridge; missing where the module is not loaded."""
ADDRESSES = Path("/proc/net/if_inet6")
"""The machine's IPv6 addresses (Linux, net/ipv6/addrconf.c): address, index, prefix, scope, flags, interface."""
LINK_LOCAL = "20"
"""The scope of link-local addresses, which every interface has; without another address, steps have no IPv6."""


class FirewallRule(Model):
    """A rule of iptables(8) for traffic that comes from a bridge."""

    table: str
    chain: str
    match: tuple[str, ...]
    why: str
    target: Literal["DROP", "ACCEPT"] = "DROP"

    def words(self, bridge: str) -> list[str]:
        """Return the rule's arguments for iptables, to follow the action (such as `-I`)."""
        return [self.chain, "-i", bridge, *(bridge if each == "BRIDGE" else each for each in self.match)]


RULES = (
    # table raw is before address translation, which replaces destinations on loopback or behind a link-local address
    FirewallRule(table="raw", chain="PREROUTING", match=("-d", "169.254.0.0/16"), why="link-local addresses"),
    FirewallRule(table="raw", chain="PREROUTING", match=("-d", "127.0.0.0/8"), why="the host's loopback"),
    # not in DOCKER-USER: the engine takes the jump to that chain away and sets it again with each network
    FirewallRule(table="mangle", chain="FORWARD", match=("-o", "br-+"), why="other networks of the engine"),
    FirewallRule(table="mangle", chain="FORWARD", match=("-o", "BRIDGE"), why=BRIDGED),
)
"""Rules that drop traffic from build steps; the engine names the bridge of a network `br-` plus the start of its id."""


def has_ipv6(bridge: str = BRIDGE, addresses: Path = ADDRESSES) -> bool:
    """Return whether build steps have IPv6 addresses, for which there are no rules."""
    lines = addresses.read_text().split("\n") if addresses.exists() else []
    entries = (line.split() for line in lines if line)
    return any(interface == bridge and scope != LINK_LOCAL for _, _, _, scope, _, interface in entries)


def find_iptables() -> str | None:
    """Return the path of iptables; look also in directories that are only in an administrator's PATH."""
    return _find("iptables")


def _find(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES]))


def is_bridged_traffic_filtered() -> bool:
    """Return whether rules of iptables apply to traffic between containers on the same bridge."""
    return BRIDGED_TRAFFIC.exists() and BRIDGED_TRAFFIC.read_text().strip() == "1"


def find_missing_rules(owner: str, bridge: str = BRIDGE) -> list[FirewallRule]:
    """Return the owner's rules that are not set or have no effect.

    These are all rules if there is no iptables or this user may not use it.
    """
    without_effect = () if is_bridged_traffic_filtered() else (BRIDGED,)
    return [rule for rule in RULES if rule.why in without_effect or not run_iptables("-C", rule, owner, bridge)]


def set_rules(owner: str, bridge: str = BRIDGE) -> list[FirewallRule]:
    """Set the owner's rules that are missing; return those that could not be set or have no effect.

    Each supply chain on a machine has its own rules, so that removing those of one leaves those of the others.
    """
    _filter_bridged_traffic()
    for rule in RULES:
        if not run_iptables("-C", rule, owner, bridge):
            run_iptables("-I", rule, owner, bridge)
    return find_missing_rules(owner, bridge)


def _filter_bridged_traffic() -> None:
    if not BRIDGED_TRAFFIC.exists() and (modprobe := _find("modprobe")):
        run([modprobe, MODULE], name="modprobe", timeout=TIMEOUT, quiet=True)
    if BRIDGED_TRAFFIC.exists() and not is_bridged_traffic_filtered():
        with contextlib.suppress(OSError):  # a container's /proc/sys is read-only
            BRIDGED_TRAFFIC.write_text("1\n")


def remove_rules(owner: str, bridge: str = BRIDGE, rules: Iterable[FirewallRule] = RULES) -> None:
    """Remove the owner's rules, however often each is set."""
    for rule in rules:
        while run_iptables("-D", rule, owner, bridge):
            pass


def render_commands(owner: str, bridge: str = BRIDGE) -> str:
    """Return one command line that sets all rules of an owner once, for a user who may use sudo."""
    needed = [["modprobe", MODULE], ["sysctl", "-w", SETTING]] if not is_bridged_traffic_filtered() else []
    rules = [["iptables", *_arguments("-I", rule, owner, bridge)] for rule in RULES]
    return " && ".join(shlex.join(["sudo", *words]) for words in [*needed, *rules])


def _arguments(action: str, rule: FirewallRule, owner: str, bridge: str) -> list[str]:
    words = ["--wait", "10", "--table", rule.table, action, *rule.words(bridge), *COMMENT, f"cscm-{owner}"]
    return [*words, "--jump", rule.target]


def run_iptables(action: str, rule: FirewallRule, owner: str, bridge: str = BRIDGE) -> bool:
    """Check (-C), insert (-I) or delete (-D) one rule; return whether that succeeded."""
    program = find_iptables()
    if program is None:
        return False
    return (
        run([program, *_arguments(action, rule, owner, bridge)], name="iptables", timeout=TIMEOUT, quiet=True).status
        == 0
    )
