"""The flow that attaches a VEX document: with the issuer's key, on the issuer's machine alone."""

import json

import pytest
from prefect.runtime import deployment

from blocks.curation_ports import CurationPorts
from flows import vex as flows
from supply_chain.errors import DeclarationInvalid
from supply_chain.model.tier import TierName
from supply_chain.policy.people import FILE, read_people
from tests.support.builders import NOON
from tests.support.facts import CURATED
from tests.support.people import Office
from tests.support.vex import openvex


class Ports:
    """Curation's ports to an in-memory registry, and a workbench that signs as Bob."""

    def __init__(self, world, project):
        self.office = Office(project)
        self.office.issuers = {"acme": self.office.bob}
        self.office.write_people()
        self.evidence, self.repositories, self.workbench = world.store(TierName.CURATION), world.ecr, self

    def people(self):
        return read_people(self.office.project / FILE, self.office.people_owner, NOON)

    def sign_as_person(self, key, statement):
        assert key == "bob.key"
        return self.office.bob.sign(statement)


@pytest.fixture
def ports(world, tmp_path, monkeypatch):
    ports = Ports(world, tmp_path)
    world.registry.add(CURATED, tags=("v1",), pushed_at=NOON, size=1)

    async def load():
        return ports

    monkeypatch.setattr(CurationPorts, "aload", load)
    return ports


async def test_document_is_signed_and_attached(machine, ports, world):
    """The image is named as for every other command."""
    done = await flows.attach_vex(CURATED.digest, json.dumps(openvex()), "bob.key")

    assert (done.image, done.by) == (CURATED, "acme")
    assert [each.predicate for each in world.store(TierName.EXECUTION).read(CURATED).attached] == [openvex()]


async def test_key_is_not_used_by_a_deployment(machine, ports, monkeypatch):
    """Its machine is another one than the person's."""
    monkeypatch.setattr(deployment, "id", "x", raising=False)

    with pytest.raises(DeclarationInvalid, match="A person's key is not used by a run of a deployment"):
        await flows.attach_vex(CURATED.digest, json.dumps(openvex()), "bob.key")
