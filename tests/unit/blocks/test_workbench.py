"""The workbench's register of names: which source `project` stands for."""

import shutil
import subprocess

import pytest

from blocks import Workbench
from supply_chain.policy.names import Holder
from supply_chain.policy.rules import name_reasons

ASKS = {"kind": "base", "owner": "platform"}


@pytest.fixture
def checkout(tmp_path):
    """A clone of the project without a remote, as `git clone` of a directory that went away leaves it."""
    project = tmp_path / "anything"
    (project / "deployments").mkdir(parents=True)
    shutil.copy("deployments/names.yaml", project / "deployments/names.yaml")
    (project / "bases/python").mkdir(parents=True)
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "x")):
        subprocess.run(["git", "-C", project, "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True)
    return project


def workbench(project):
    return Workbench(project=str(project), tools="/nowhere", database="/nowhere")


@pytest.mark.parametrize("remote", ["", "git@example.com:any/clone.git"])
def test_the_checkouts_own_bases_are_listed(checkout, remote):
    """Whatever its remote is called, and where it has none: every clone makes its own bases."""
    if remote:
        subprocess.run(["git", "-C", checkout, "remote", "add", "origin", remote], check=True)
    asks = Holder(**ASKS, repository=remote or "anything", path="bases/python")

    for directory in (checkout / "bases/python", None):
        assert name_reasons("base/python", workbench(checkout).registered("base/python", directory), asks) == ()


def test_a_repository_that_claims_the_projects_remote_is_not_the_project(checkout, tmp_path):
    """Its configuration is its developer's; where it lies is not."""
    asks = Holder(**ASKS, repository="anything", path="bases/python")
    elsewhere = tmp_path / "other/anything/bases/python"
    (checkout / "bases/link").symlink_to(tmp_path)

    for directory in (elsewhere, (checkout / "bases/link/other").resolve()):
        held = workbench(checkout).registered("base/python", directory)
        assert [reason.code for reason in name_reasons("base/python", held, asks)] == ["name.taken"]


def test_other_names_ask_nothing_of_the_checkout(checkout):
    """Where nothing is written down there is no holder."""
    assert workbench(checkout).registered("hello", checkout) is None
