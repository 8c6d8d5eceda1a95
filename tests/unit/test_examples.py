"""The examples and bases: what can be checked without building them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supply_chain.adapters.git.snapshot import take_snapshot
from supply_chain.execution.environment import ENVIRONMENT_DOCUMENT
from supply_chain.model.declaration import FILE, Base, Classification, Service, read_declaration
from supply_chain.model.documents import read_document
from tests.support.dockerignore import ignored

ROOT = Path(__file__).parents[2]
BASES = sorted(path.parent for path in ROOT.glob(f"bases/*/{FILE}"))
EXAMPLES = sorted(path.parent for path in ROOT.glob(f"examples/*/{FILE}"))
OUTSIDE = sorted(path.parent for path in ROOT.glob(f"examples/outside/*/{FILE}"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_expected_examples_and_bases_exist():
    """A lost directory would pass every other test here."""
    assert [path.name for path in EXAMPLES] == ["careless", "clock", "hello", "outdated"]
    assert [path.name for path in BASES] == ["go-build", "node", "node-build", "proxy", "python", "python-build"]


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_example_is_service_named_after_directory(path: Path):
    """The commands and addresses in the README rely on it."""
    declaration = read_declaration(path)

    assert isinstance(declaration, Service)
    assert declaration.name == path.name


@pytest.mark.parametrize("path", BASES, ids=name)
def test_base_has_packages_and_name_of_directory(path: Path):
    """Dockerfiles start from curated/base/NAME."""
    declaration = read_declaration(path)

    assert isinstance(declaration, Base)
    assert declaration.name == f"base/{path.name}"
    assert declaration.rootfs is not None and declaration.rootfs.packages


@pytest.mark.parametrize("path", [*BASES, *EXAMPLES, *OUTSIDE, ROOT], ids=name)
def test_declaration_names_schema_for_editors(path: Path):
    """The first line refers to the project's schema."""
    first = (path / FILE).read_text().splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)

    assert match and (path / match[1]).resolve() == ROOT / "docs" / "supply-chain.schema.json"


def test_one_example_is_confidential():
    """It shows the encrypted copy."""
    assert read_declaration(ROOT / "examples" / "clock").classification is Classification.CONFIDENTIAL


def requirements(text: str) -> dict[str, str]:
    """Return package → whole line of a file that pins by hash."""
    return {line.partition("==")[0]: line for line in text.replace("\\\n", " ").splitlines() if "==" in line}


def test_project_declares_itself_as_application():
    """The context has only what is built into the image."""
    with take_snapshot(ROOT, None, ignored) as snapshot:
        files = {str(path.relative_to(snapshot.context)) for path in snapshot.context.rglob("*") if path.is_file()}

    assert isinstance(snapshot.declaration, Base)
    assert snapshot.declaration.build.dockerfile == "examples/self/Dockerfile"
    assert {file.partition("/")[0] for file in files if "/" in file} == {"blocks", "examples", "flows", "src", "tasks"}
    assert {file for file in files if file.startswith("examples/")} <= {
        str(path.relative_to(ROOT)) for path in (ROOT / "examples" / "self").iterdir()
    }


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/self/requirements*.txt")), ids=name)
def test_release_uses_locked_packages(path: Path):
    """`make lock` writes both files; other versions would be untested."""
    locked = requirements((ROOT / "requirements.lock").read_text())
    used = requirements(path.read_text())

    assert used and used.items() <= locked.items()


@pytest.mark.parametrize("path", OUTSIDE, ids=name)
def test_external_application_has_declaration_and_source(path: Path):
    """Its code is elsewhere; the README names repository and revision."""
    declaration, readme = read_declaration(path), (path / "README.md").read_text()

    assert declaration.name == path.name
    assert re.search(r"https://github\.com/\S+", readme) and re.search(r"\b[0-9a-f]{40}\b", readme)
    assert {each.name for each in path.iterdir()} == {FILE, "README.md"}


@pytest.mark.parametrize(
    "path", sorted((*ROOT.glob("examples/hello/requirements*.txt"), *ROOT.glob("examples/self/*.txt"))), ids=name
)
def test_requirements_are_pinned_by_hash_without_index(path: Path):
    """The packages are the same from every index, and the machine chooses the index."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    requirements = [line for line in lines if line and not line.lstrip().startswith("#")]

    assert requirements
    assert [line for line in requirements if not re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)] == []


@pytest.mark.parametrize("application", ["hello", "clock"])
def test_environment_has_placement_for_example(application: str):
    """The chain deploys to the first environment and promotes to the others; `make run` adds that in a cluster."""
    declaration = read_declaration(ROOT / "examples" / application)
    assert isinstance(declaration, Service)
    directory, added = ROOT / "deployments" / "environments", ROOT / "src/cscm_laptop/cluster/environment.yaml"
    found = {
        name: read_document(added if name == "cluster" else directory / f"{name}.yaml", ENVIRONMENT_DOCUMENT)
        for name in declaration.environments
    }

    assert all(each.name == name and application in each.applications for name, each in found.items())
    assert list(found)[:2] == ["staging", "production"]
