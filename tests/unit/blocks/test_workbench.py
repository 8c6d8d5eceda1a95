"""The name register in the workbench: which source the entry `project` means."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from pydantic import ValidationError

from blocks import Workbench
from orchestration.clock import read_clock
from supply_chain.adapters.debian_archive import DebianArchives
from supply_chain.adapters.files.private_files import PrivateFiles
from supply_chain.adapters.npm_registry import NpmRegistries
from supply_chain.adapters.python_index import PythonIndexes
from supply_chain.development.content import DEBIAN_ARCHIVES, NPM_REGISTRIES, PYTHON_INDEXES
from supply_chain.errors import DeclarationInvalid, PolicyUnsigned
from supply_chain.model.declaration import Classification
from supply_chain.policy import loading
from supply_chain.policy.fact_values import name_conflict
from supply_chain.policy.loading import check_policy
from supply_chain.policy.names import Holder
from tests.support.people import Office, copy_shipped, raise_version
from tests.support.policies import RELEASE
from tests.support.present import present

ASKS = {"kind": "base", "owner": "platform"}


@pytest.fixture
def checkout(tmp_path):
    """A clone of the project without a remote."""
    project = tmp_path / "anything"
    (project / "deployments").mkdir(parents=True)
    shutil.copy("deployments/names.yaml", project / "deployments/names.yaml")
    (project / "bases/python").mkdir(parents=True)
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "x")):
        subprocess.run(["git", "-C", project, "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True)
    return project


def workbench(project, **settings):
    return Workbench(project=str(project), tools="/nowhere", database="/nowhere", **settings)


def test_gates_decide_by_active_policies_alone(tmp_path):
    """What decides nothing also reads others. The owner and the time are settings of the block."""
    copy_shipped(tmp_path)
    assert workbench(tmp_path).policies().release.digest == RELEASE.digest

    with pytest.raises(PolicyUnsigned):
        workbench(tmp_path, policies_signed_since=read_clock()).policies()
    raise_version(tmp_path / "deployments/policies/release.yaml")
    with pytest.raises(PolicyUnsigned):
        workbench(tmp_path).policies()
    assert workbench(tmp_path).unsigned_policies().release.digest != RELEASE.digest
    office = Office(tmp_path)
    office.sign_policies(office.owner, read_clock())
    owned = workbench(tmp_path, people_owner=office.owner.public, installation=office.installation)
    assert owned.policies().release.digest == owned.unsigned_policies().release.digest
    assert owned.project_state(tmp_path).active and not workbench(tmp_path).project_state(tmp_path).active


def test_package_indexes_are_those_of_the_block(tmp_path):
    """Without one, the packages' own records count. No password is in an address, because checks state it."""
    own = ("https://index.invalid/simple/",)

    assert present(workbench(tmp_path).python_index).urls == PYTHON_INDEXES
    assert present(workbench(tmp_path, python_indexes=own, ca_bundle="/ca.pem").python_index) == PythonIndexes(
        own, PrivateFiles(Path("/nowhere").with_name("results") / "python"), Path("/ca.pem")
    )
    assert workbench(tmp_path, python_indexes=()).python_index is None
    with pytest.raises(ValidationError, match="python_indexes"):
        workbench(tmp_path, python_indexes=("https://me:secret@index.invalid/simple/",))


def test_debian_archives_are_those_of_the_block(tmp_path):
    """Without one, the packages' own records count. No password is in an address, because checks state it."""
    own = ("https://archive.invalid/debian bookworm main contrib",)

    assert present(workbench(tmp_path).debian_archive).lines == DEBIAN_ARCHIVES
    block = workbench(tmp_path, debian_archives=own, ca_bundle="/ca.pem")
    assert present(block.debian_archive) == DebianArchives(
        own, PrivateFiles(Path("/nowhere").with_name("results") / "debian"), Path("/ca.pem")
    )
    assert workbench(tmp_path, debian_archives=()).debian_archive is None
    with pytest.raises(ValidationError, match="debian_archives"):
        workbench(tmp_path, debian_archives=("https://me:secret@archive.invalid/debian bookworm main",))


def test_npm_registries_are_those_of_the_block(tmp_path):
    """Without one, the packages' own metadata count. No password is in an address, because checks state it."""
    own = ("https://registry.invalid/npm/",)

    assert present(workbench(tmp_path).npm_registry).urls == NPM_REGISTRIES
    assert present(workbench(tmp_path, npm_registries=own, ca_bundle="/ca.pem").npm_registry) == NpmRegistries(
        own, PrivateFiles(Path("/nowhere").with_name("results") / "npm"), Path("/ca.pem")
    )
    assert workbench(tmp_path, npm_registries=()).npm_registry is None
    with pytest.raises(ValidationError, match="npm_registries"):
        workbench(tmp_path, npm_registries=("https://me:secret@registry.invalid/",))


def test_unchanged_policies_are_checked_once_by_concurrent_threads(tmp_path, monkeypatch):
    """Not by another thread either, which waits. What is wrong is said by the gate that needs them."""
    copy_shipped(tmp_path)
    check = Mock(side_effect=check_policy)
    monkeypatch.setattr(loading, "check_policy", check)
    loading._check_content.cache_clear()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: workbench(tmp_path).check_policies(), range(2)))
    workbench(tmp_path).policies()

    assert check.call_count == len(list((tmp_path / "deployments/policies").glob("*.yaml")))
    (tmp_path / "deployments/policies/release.yaml").unlink()
    workbench(tmp_path).check_policies()


def test_deploy_gate_requires_settings_of_active_environments(tmp_path):
    """Also the one in which an image has to soak before: a short soak there would let everything pass."""
    copy_shipped(tmp_path)
    block, staging = workbench(tmp_path), tmp_path / "deployments/environments/staging.yaml"
    production = block.environment("production")
    assert (
        block.active_requirements(production) == block.requirements("production")
        and block.environment_state(production).active
    )

    staging.write_text(staging.read_text().replace("soak: 1h", "soak: 1s"))
    with pytest.raises(PolicyUnsigned, match=r"environments/staging \(changed\)"):
        block.active_requirements(production)
    assert block.requirements("production").soak.seconds == 1, "what decides nothing needs no signature"
    with pytest.raises(PolicyUnsigned):
        block.active_requirements(production.model_copy(update={"approval": "none"}))
    assert not block.environment_state(block.environment("staging")).active


@pytest.mark.parametrize("remote", ["", "git@example.com:any/clone.git"])
def test_bases_of_checkout_are_registered_for_any_remote(checkout, remote):
    """Every clone builds its own bases."""
    if remote:
        subprocess.run(["git", "-C", checkout, "remote", "add", "origin", remote], check=True)
    asks = Holder(**ASKS, repository=remote or "anything", path="bases/python")

    for directory in (checkout / "bases/python", None):
        assert name_conflict("base/python", workbench(checkout).registered("base/python", directory), asks) is None


def test_repository_with_same_remote_is_not_the_project(checkout, tmp_path):
    """Developers control their remotes, but not the location of the project."""
    asks = Holder(**ASKS, repository="anything", path="bases/python")
    elsewhere = tmp_path / "other/anything/bases/python"
    (checkout / "bases/link").symlink_to(tmp_path)

    for directory in (elsewhere, (checkout / "bases/link/other").resolve()):
        held = workbench(checkout).registered("base/python", directory)
        assert name_conflict("base/python", held, asks) is not None


def test_unregistered_name_has_no_holder(checkout):
    """Nothing is read from the checkout."""
    assert workbench(checkout).registered("hello", checkout) is None


def test_minimum_classification_comes_from_the_active_register(checkout):
    """What decides nothing reads the register as it is."""
    register = checkout / "deployments/names.yaml"
    register.write_text("names: {pay: {classification: confidential}}\n")

    with pytest.raises(PolicyUnsigned):
        workbench(checkout).minimum_classification("pay")
    assert workbench(checkout).unsigned_names().minimum_classification("pay") is Classification.CONFIDENTIAL


def test_environment_documents_are_those_of_the_project(tmp_path):
    """One that is invalid is named, and the others are there."""
    copy_shipped(tmp_path)
    (tmp_path / "deployments/environments/broken.yaml").write_text("soak: soon")

    found = workbench(tmp_path).environment_documents()

    assert {"staging", "production"} <= {each.name for each in found.readable} and [*found.unreadable] == ["broken"]


def test_unreadable_environment_may_be_production(tmp_path):
    """Its findings are reported with those of production, and no rescan ends for it."""
    copy_shipped(tmp_path)
    directory = tmp_path / "deployments/environments"
    (directory / "live.yaml").write_text("name: live\nproduction: true\n")
    (directory / "lab.yaml").write_text("name: lab\n")
    before = workbench(tmp_path).production_environments()
    (directory / "broken.yaml").write_text("soak: soon")

    assert workbench(tmp_path).production_environments() == {*before, "broken"}
    assert "live" in before and "lab" not in before


def test_environment_that_is_unreadable_or_not_active_may_be_anywhere(tmp_path):
    """Whoever changed it may have hidden the host on which its images run."""
    copy_shipped(tmp_path)
    directory, block = tmp_path / "deployments/environments", workbench(tmp_path)
    assert block.unknown_environments(block.environment_documents()) == {}
    (directory / "broken.yaml").write_text("soak: soon")
    (directory / "staging.yaml").write_text("name: staging\nhost: elsewhere\nsoak: 1h\n")

    unknown = block.unknown_environments(block.environment_documents())

    assert {name: type(error) for name, error in unknown.items()} == {
        "broken": DeclarationInvalid, "staging": PolicyUnsigned,
    }  # fmt: skip


def test_valid_environment_ignores_other_invalid_environments(tmp_path):
    """Another one that is invalid does not matter."""
    copy_shipped(tmp_path)
    (tmp_path / "deployments/environments/broken.yaml").write_text("soak: soon")

    assert workbench(tmp_path).valid_environment("staging").name == "staging"
    with pytest.raises(DeclarationInvalid, match="soak"):
        workbench(tmp_path).valid_environment("broken")
