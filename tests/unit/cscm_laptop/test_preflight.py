"""What `cscm check` uses of a machine: it starts no service, and says how to install what is missing."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop import laptop, preflight
from cscm_laptop.home import Home
from cscm_laptop.laptop import install
from cscm_laptop.preflight import TOOLS, make_preflight_ports
from cscm_laptop.profile import Ports, Profile
from orchestration.clock import read_clock
from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.tools import Toolbox
from supply_chain.adapters.tools.syft import SourceSyft
from supply_chain.adapters.vulndb.current import MODEL
from supply_chain.errors import (
    CheckIncomplete,
    DatabaseUnusable,
    DockerfileRefused,
    EngineUnavailable,
    ImageNotFound,
    ToolMissing,
)
from supply_chain.evidence.checks import Check
from supply_chain.model.container import Machine
from supply_chain.vulnerability.scanner import Sbom
from tests.support.builders import base, declaration
from tests.support.command import ROOT
from tests.support.memory_engine import MemoryEngine
from tests.support.people import Office
from tests.support.policies import INTAKE, RELEASE

SUM = "sha256:" + "a" * 64


@pytest.fixture
def home(tmp_path):
    return Home(ROOT, tmp_path / "home")


@pytest.fixture
def installed(home, monkeypatch):
    """The names of the tools that are installed, with a database; a tool's version is its name."""
    names = set(TOOLS)

    def find(_, name):
        if name not in names:
            raise ToolMissing(f"{name} is not on this machine.\nRun `cscm up`.")
        return Tool(name, Path("/tools") / name, name)

    monkeypatch.setattr(Toolbox, "find", find)
    database = home.database / MODEL
    database.mkdir(parents=True)
    (database / "import.json").write_text('{"digest": "xxh64:0", "source": "https://example.com"}')
    return names


def test_preflight_ports_have_tools_and_policies_of_project(home, installed, make, tmp_path):
    """They are those of a build: the reader, the checks with their versions, and the rules of the intake gate."""
    ports = make_preflight_ports(home, Profile())

    planned = {each.check: each.tools for each in ports.plan(make.snapshot(tmp_path))}
    assert {check: next(iter(tools.items())) for check, tools in planned.items()} == {
        Check.SECRETS: ("detect-secrets", "detect-secrets"),
        Check.SOURCE: ("bandit", "bandit"),
        Check.DOCKERFILE: ("hadolint", "hadolint"),
    }
    assert (ports.reader.version, ports.generator.generator) == ("dockerfile-reader", "syft syft")
    assert ports.policy.digest == INTAKE.digest
    assert [each.name for each in home.directory.iterdir()] == ["database"], "nothing is made"


def test_waivers_count_as_at_the_gate(installed, tmp_path):
    """The owner of the people document is the one of this machine; without one, no waiver counts."""
    project = Path(shutil.copytree(ROOT / "deployments", tmp_path / "project/deployments")).parent
    office = Office(project, installation="laptop")
    office.write_people(at=read_clock(), days=366)
    office.waive("zlib", at=read_clock(), expires=read_clock() + timedelta(days=30))
    home = Home(project, tmp_path / "home")

    assert make_preflight_ports(home, Profile()).policy.waivers == ()
    home.people_owner.parent.mkdir(parents=True)
    home.people_owner.write_text(office.owner.public)
    assert [each.name for each in make_preflight_ports(home, Profile()).policy.waivers] == ["zlib"]


def test_names_of_images_are_judged_by_the_profile(home, installed):
    """Its registry, its upstream bases and its registries, as in the blocks of a build."""
    profile = Profile(ports=Ports(emulator=5000), bases={"node": f"quay.io/node@{SUM}"}, registries=("quay.io",))
    names = make_preflight_ports(home, profile).names

    assert names.find("127.0.0.1:5000/curated/base/go:latest") == ("curated/base/go", None)
    assert names.find("docker.io/curated/base/node:latest") == ("curated/base/node", f"quay.io/node@{SUM}")
    with pytest.raises(DockerfileRefused, match=r"docker\.io"):
        names.find("docker.io/library/python:3")


@pytest.mark.parametrize("tool", TOOLS)
def test_missing_tool_is_an_error_that_says_how_to_install_it(home, installed, tool):
    """No check is left out."""
    installed.remove(tool)

    with pytest.raises(ToolMissing, match=rf"(?s)^{tool} is not .*`cscm up`.*`cscm check PATH --install`"):
        make_preflight_ports(home, Profile())


def test_missing_database_is_an_error_that_says_how_to_make_it(home, installed):
    """A scan without one would find nothing."""
    (home.database / MODEL / "import.json").unlink()

    with pytest.raises(DatabaseUnusable, match=r"(?s)there is none.*`cscm up`.*`cscm check PATH --install`"):
        make_preflight_ports(home, Profile())


def test_install_gets_only_the_tools_of_a_check_and_the_database(home, monkeypatch):
    """The other tools need an engine, or root to install them."""
    made: list[object] = []

    class Installer:
        def __init__(self, directory, pins):
            self.directory, self.pins = directory, pins

        def ensure(self, progress):
            made.append((self.directory, tuple(self.pins.tools)))

    monkeypatch.setattr(laptop, "Installer", Installer)
    monkeypatch.setattr(laptop, "_database", lambda toolbox, *_: made.append(type(toolbox)))

    install(Profile(), home, TOOLS, print)

    assert made == [(home.tools, TOOLS), Installer]
    assert home.is_ours()


class LocalEngine(MemoryEngine):
    """An engine of this machine."""

    local = True

    def machine(self):
        return Machine(cpus=2, memory=2**32, storage="/var/lib/docker")


@pytest.fixture
def engine(monkeypatch):
    made = LocalEngine()
    monkeypatch.setattr(DockerEngine, "connect", lambda url: made)
    return made


def test_local_image_is_run_by_function_of_its_kind(home, installed, engine, monkeypatch):
    """The functions are those of the test step."""
    engine.add("hello:dev", archive=b"image")
    for name in ("probe", "check_command"):
        monkeypatch.setattr(preflight, name, lambda setup, image, _, name=name: (name, image, setup.room.limits.memory))
    image: Any = make_preflight_ports(home, Profile(), "hello:dev").image

    assert image.run(declaration()) == ("probe", "hello:dev", 2**31)
    assert image.run(base()) == ("check_command", "hello:dev", 2**31)
    assert image.policy.digest == RELEASE.digest and image.name == "hello:dev"


def test_local_image_is_scanned_up_to_its_declared_size(home, installed, engine, monkeypatch):
    """A larger one is refused by its build."""
    monkeypatch.setattr(preflight, "SLACK", 0)
    monkeypatch.setattr(SourceSyft, "make_archive_sbom", lambda _, archive: Sbom(archive.read_bytes(), 0, ""))
    small, large = (declaration(build={"max_size": each}) for each in ("2MiB", "1MiB"))
    engine.add("hello:dev", archive=bytes(2**20 + 1))
    image = make_preflight_ports(home, Profile(), "hello:dev").image
    assert image is not None

    assert image.list_contents(small).content == bytes(2**20 + 1)
    with pytest.raises(CheckIncomplete, match=r"hello:dev has more than 1 MiB"):
        image.list_contents(large)


def test_image_that_cannot_be_observed_is_an_error(home, installed, engine):
    """Nothing is checked before."""
    with pytest.raises(ImageNotFound, match="hello:dev"):
        make_preflight_ports(home, Profile(), "hello:dev")
    engine.local = False
    with pytest.raises(EngineUnavailable, match="another machine"):
        make_preflight_ports(home, Profile(), "hello:dev")


def test_working_copy_needs_no_engine(home, installed, monkeypatch):
    """A hook runs it anywhere."""
    monkeypatch.setattr(DockerEngine, "connect", lambda *_: pytest.fail("the engine is asked"))

    assert make_preflight_ports(home, Profile()).image is None
