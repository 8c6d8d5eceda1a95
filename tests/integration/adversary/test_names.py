"""Names of others: refused before anything is built, whatever the declaration and the clone's configuration say."""

from __future__ import annotations

import docker
import pytest

from supply_chain.model.image import ImageRef
from tests.support.application import git
from tests.support.command import ROOT, cscm

from .conftest import Make

pytestmark = pytest.mark.real

POISON = 'FROM scratch AS test\nRUN ["/nowhere"]\n'
"""A Dockerfile that no builder can build: whoever asks for it fails otherwise than refused."""


def base(name: str) -> dict[str, str]:
    declaration = f"kind: base\nname: {name}\nowner: platform\ncheck: [/subject, status-0]\n"
    return {"Dockerfile": POISON, "supply-chain.yaml": declaration}


@pytest.mark.parametrize("name", ["base/python", "base/not-there-yet", "upstream/debian"])
@pytest.mark.parametrize("command", ["develop", "chain"])
def test_a_reserved_name_is_refused_before_the_build(bases: None, application: Make, name: str, command: str) -> None:
    """Also one that nobody ever used, with kind and owner as the register has them."""
    ran = cscm(command, str(application(f"claims-{name.replace('/', '-')}-{command}", base(name))), "--json")

    assert ran.reasons() == {"name.taken"}
    assert ran.result["image"] is None and ran.result["application"] == name


def test_a_clone_that_claims_the_projects_remote_is_not_the_project(bases: None, application: Make) -> None:
    """Its configuration is its developer's to write."""
    remote = git(ROOT, "config", "--default", ROOT.name, "--get", "remote.origin.url")
    ran = cscm("develop", str(application("pretends", base("base/python"), remote=remote)), "--json")

    assert ran.reasons() == {"name.taken"}


def test_a_name_that_is_in_use_is_refused_before_the_build(
    curated: ImageRef, application: Make, engine: docker.DockerClient
) -> None:
    """What was admitted under it is of another source; the engine is asked for nothing."""
    before = {each.id for each in engine.images.list()}
    path = application("thief", {"Dockerfile": POISON}, remote="git@example.com:thief.git")
    declaration = path / "supply-chain.yaml"
    declaration.write_text(declaration.read_text().replace("name: thief", f"name: {curated.application}"))

    ran = cscm("develop", str(path))

    assert ran.status == 3 and "name.taken" in ran.stdout
    assert "before it is built, is refused at the intake gate" in ran.stdout
    assert {each.id for each in engine.images.list()} <= before


def test_whoever_holds_the_name_builds_on(curated: ImageRef, application: Make) -> None:
    """From the same source, as the gate decides too."""
    path = application(curated.application + "-again", remote=f"git@example.com:{curated.application}.git")
    declaration = path / "supply-chain.yaml"
    declaration.write_text(declaration.read_text().replace(path.name, curated.application))

    assert cscm("develop", str(path)).status == 0
