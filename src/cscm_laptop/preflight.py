"""What `cscm check` uses of this machine: tools, vulnerability database, policies and the profile, and no service."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from orchestration.clock import now
from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.adapters.tools.source_checks import plan_source_checks
from supply_chain.adapters.tools.syft import SourceSyft
from supply_chain.adapters.vulndb.scanner import current_scanner
from supply_chain.development.bases import ImageNames
from supply_chain.development.preflight import PreflightPorts
from supply_chain.errors import DatabaseUnusable, ToolMissing
from supply_chain.model.tier import BASES
from supply_chain.policy.loading import read_unsigned_policies

PINS = Path("deployments/tools.yaml")
TOOLS = ("dockerfile-reader", "detect-secrets", "bandit", "hadolint", "syft", "grype")
INSTALL = "Without a supply chain on this machine: `cscm check PATH --install`."


def preflight_ports(home: Home, profile: Profile) -> PreflightPorts:
    """Return the dependencies of a preflight.

    Raises `ToolMissing` if a tool is not installed, and `DatabaseUnusable` if there is no vulnerability database.
    """
    toolbox = Toolbox(home.tools, Pins.load(home.project / PINS))
    try:
        tools = {name: toolbox.find(name) for name in TOOLS}
        scanner = current_scanner(tools["grype"], home.database, now)
    except (DatabaseUnusable, ToolMissing) as error:
        raise type(error)(f"{error.message}\n{INSTALL}") from error
    reader = BuildKitReader(tools["dockerfile-reader"])
    instead = {f"{BASES}/{name}": image for name, image in profile.bases.items() if image}
    return PreflightPorts(
        take=partial(take_snapshot, revision=None, ignores=reader.find_excluded),
        reader=reader,
        names=ImageNames(profile.registry, instead, profile.registries),
        plan=lambda snapshot: plan_source_checks(tools.__getitem__, snapshot, now),
        generator=SourceSyft(tools["syft"]),
        scanner=scanner,
        policy=read_unsigned_policies(home.project, home.owner_key(), now()).intake,
        now=now,
    )
