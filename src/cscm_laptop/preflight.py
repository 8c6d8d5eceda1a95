"""What `cscm check` uses of this machine: tools, vulnerability database, policies and the profile.

It uses no service, except the container engine for a local image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from secrets import token_hex

from cscm_laptop.engine import read_engine_url
from cscm_laptop.home import Home
from cscm_laptop.profile import Profile
from orchestration.clock import read_clock
from supply_chain.adapters.docker.dockerfile import BuildKitReader
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.git.snapshot import require_texts, take_snapshot
from supply_chain.adapters.image.layers import SLACK
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Pins, Toolbox
from supply_chain.adapters.tools.secrets import SecretSearch
from supply_chain.adapters.tools.source_checks import plan_source_checks
from supply_chain.adapters.tools.syft import SourceSyft
from supply_chain.adapters.vulndb.scanner import make_grype_scanner
from supply_chain.development.bases import ImageNames
from supply_chain.development.preflight import LocalImagePorts, Preflight, PreflightPorts, find_mistakes
from supply_chain.development.probe import CheckSetup, check_command, probe
from supply_chain.development.separation import DISK, PROCESSES, RESERVE, BuildLimits, Room
from supply_chain.errors import CheckIncomplete, DatabaseUnusable, EngineUnavailable, ToolMissing
from supply_chain.evidence.checks import CheckResult
from supply_chain.model.declaration import Base, Service, list_bases
from supply_chain.model.tier import BASES
from supply_chain.policy.facts import ReleaseFacts
from supply_chain.policy.loading import REGISTER, read_unsigned_policies
from supply_chain.policy.names import read_register
from supply_chain.policy.people import LAPTOP, PeopleOwner
from supply_chain.policy.policies import GatePolicy, Policies
from supply_chain.scratch import make_scratch_directory
from supply_chain.text import format_mebibytes
from supply_chain.vulnerability.scanner import Sbom

PINS = Path("deployments/tools.yaml")
TOOLS = ("dockerfile-reader", "detect-secrets", "bandit", "hadolint", "syft", "grype")
INSTALL = "Without a supply chain on this machine: `cscm check PATH --install`."


def read_first(home: Home, directory: Path) -> Preflight | None:
    """Return what is wrong with the declaration or the Dockerfile of a working copy, before any tool is needed.

    None if both can be read. Raises `DeclarationInvalid` if there is no declaration.
    """
    return find_mistakes(directory, require_texts, lambda: _policies(home).intake)


def make_preflight_ports(home: Home, profile: Profile, image: str | None = None) -> PreflightPorts:
    """Return the dependencies of a preflight of a working copy, and of a local image if one is named.

    Raises `SettingInvalid` or `DeclarationInvalid` if the name register cannot be read, `ToolMissing` if a tool is
    not installed, and `DatabaseUnusable` if there is no vulnerability database. For
    an image, also `EngineUnavailable`, and `ImageNotFound` if the engine has none of this name or id.
    """
    toolbox = Toolbox(home.tools, Pins.load(home.project / PINS))
    try:
        tools = {name: toolbox.find(name) for name in TOOLS}
        scanner = make_grype_scanner(tools["grype"], home.database, read_clock)
    except (DatabaseUnusable, ToolMissing) as error:
        raise type(error)(f"{error.message}\n{INSTALL}") from error
    reader = BuildKitReader(tools["dockerfile-reader"])
    policies = _policies(home)
    instead = {f"{BASES}/{name}": image for name, image in profile.bases.items() if image}
    return PreflightPorts(
        take=partial(take_snapshot, revision=None, ignores=reader.find_excluded),
        reader=reader,
        names=ImageNames(profile.registry, instead, profile.registries),
        bases=list_bases(home.project),
        plan=lambda snapshot: plan_source_checks(tools.__getitem__, snapshot, read_clock),
        generator=SourceSyft(tools["syft"]),
        scanner=scanner,
        policy=policies.intake,
        minimum_classification=read_register(home.project / REGISTER).minimum_classification,
        now=read_clock,
        image=make_local_image_ports(image, tools, policies.release) if image else None,
    )


def _policies(home: Home) -> Policies:
    return read_unsigned_policies(home.project, PeopleOwner(home.read_owner_key(), LAPTOP), read_clock())


def make_local_image_ports(name: str, tools: Mapping[str, Tool], policy: GatePolicy[ReleaseFacts]) -> LocalImagePorts:
    """Return the dependencies of judging an image of this machine's engine.

    Raises `EngineUnavailable` if there is no engine on this machine, and `ImageNotFound` if it has no such image.
    """
    engine = DockerEngine.connect(read_engine_url())
    if not engine.local:
        raise EngineUnavailable(
            f"The engine at {read_engine_url()} is on another machine, where the probe cannot observe processes.\n"
            "Set DOCKER_HOST to the socket of an engine on this machine, and build the image there."
        )
    engine.image(name)
    machine, search, run = engine.machine(), SecretSearch(tools["detect-secrets"]), token_hex(8)
    limits = BuildLimits(memory=machine.memory // 2, processes=PROCESSES, cpus=machine.cpus, disk=DISK, reserve=RESERVE)
    setup = CheckSetup(engine, run, search, Room(limits, lambda: ""), read_clock)

    def check(declaration: Service | Base) -> CheckResult:
        if isinstance(declaration, Service):
            return probe(setup, name, declaration)
        return check_command(setup, name, declaration)

    def list_contents(declaration: Service | Base) -> Sbom:
        most = declaration.build.max_size
        with make_scratch_directory("image") as work:
            archive = work / "image.tar"
            if not engine.save(name, archive, most + SLACK):
                raise CheckIncomplete(
                    f"{name} has more than {format_mebibytes(most)}, the declared limit, and is not scanned.\n"
                    "Make it smaller, or declare a larger build.max_size."
                )
            return SourceSyft(tools["syft"]).make_archive_sbom(archive)

    return LocalImagePorts(name, check, list_contents, policy)
