"""Names of other owners: refused before the build, whatever the declaration and the git configuration claim."""

from __future__ import annotations

import docker
import pytest

from supply_chain.model.image import ImageRef
from tests.integration.adversary.attacked import Make
from tests.support.application import git
from tests.support.command import ROOT, cscm

pytestmark = pytest.mark.real

POISON = 'FROM scratch AS test\nRUN ["/nowhere"]\n'
"""A Dockerfile that no builder can build: if the build starts, the test fails."""


def base(name: str) -> dict[str, str]:
    declaration = f"kind: base\nname: {name}\nowner: platform\ncheck: [/subject, status-0]\n"
    return {"Dockerfile": POISON, "supply-chain.yaml": declaration}


@pytest.mark.parametrize(
    ("command", "name"), [("build", "base/python"), ("chain", "base/not-there-yet"), ("chain", "upstream/debian")]
)
def test_reserved_name_is_refused_before_the_build(bases: None, application: Make, command: str, name: str) -> None:
    """Unused names are reserved too, even with the kind and the owner of the register."""
    ran = cscm(command, str(application(f"claims-{name.replace('/', '-')}-{command}", base(name))), "--json")

    assert ran.reasons() == {"name.taken"}
    assert ran.result["image"] is None and ran.result["application"] == name


def test_clone_with_the_remote_of_the_project_is_refused(bases: None, application: Make) -> None:
    """A developer can write any remote into a clone's git configuration."""
    remote = git(ROOT, "config", "--default", ROOT.name, "--get", "remote.origin.url")
    ran = cscm("build", str(application("pretends", base("base/python"), remote=remote)), "--json")

    assert ran.reasons() == {"name.taken"}


def test_name_in_use_by_another_source_is_refused_before_the_build(
    curated: ImageRef, application: Make, engine: docker.DockerClient
) -> None:
    """The engine receives no request."""
    names = {"reference": f"cscm.local/{curated.application}*"}
    before = {each.id for each in engine.images.list(filters=names)}
    path = application("thief", {"Dockerfile": POISON}, remote="git@example.com:thief.git")
    declaration = path / "supply-chain.yaml"
    declaration.write_text(declaration.read_text().replace("name: thief", f"name: {curated.application}"))

    ran = cscm("build", str(path))

    assert ran.status == 3 and "name.taken" in ran.stdout
    assert "before it is built, is refused at the intake gate" in ran.stdout
    assert {each.id for each in engine.images.list(filters=names)} <= before


def test_owner_of_a_name_can_build_from_another_clone(curated: ImageRef, application: Make) -> None:
    """The source repository decides, as it does at the gate."""
    path = application(curated.application + "-again", remote=f"git@example.com:{curated.application}.git")
    declaration = path / "supply-chain.yaml"
    declaration.write_text(declaration.read_text().replace(path.name, curated.application))

    assert cscm("build", str(path)).status == 0
