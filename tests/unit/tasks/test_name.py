"""check_name: the owner of a name, checked before the build from what development can read."""

from types import SimpleNamespace
from typing import Any

import pytest

from blocks.development_ports import DevelopmentPorts
from supply_chain.evidence.statement import PROVENANCE, SIGNATURE
from supply_chain.model.image import ImageRef, StorageStatus, StoredManifest
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.names import Holder, NameRegister
from tasks.name import check_name_step
from tests.support.pieces import CURATION, DEV, Pieces
from tests.support.policies import POLICIES

EARLIER = ImageRef(repository="curated/hello", digest=f"sha256:{'e' * 64}")


class Development(Pieces):
    """What development reads: the register, and an earlier image with the name if there is one."""

    def __init__(self, world, make):
        super().__init__(world, make)
        self.listed, self.register = [], NameRegister(names={})

    def hold(self, make, owner, *, signed=True):
        """Add a curated image of this owner."""
        status = StorageStatus.ACTIVE
        self.listed = [StoredManifest(digest=EARLIER.digest, tags=("t",), pushed_at=make.noon, size=1, status=status)]
        self.attach(EARLIER, DEV, PROVENANCE, make.provenance(owner=owner))
        if signed:
            self.attach(EARLIER, CURATION, SIGNATURE, {})

    async def check(self, make, declaration, path):
        store = self.world.store(TierName.DEVELOPMENT)
        tier: Any = SimpleNamespace(ecr=SimpleNamespace(images=lambda _: self.listed))
        workbench: Any = SimpleNamespace(registered=lambda name, _: self.register.of(name), policies=lambda: POLICIES)
        host: Any = None
        ports = DevelopmentPorts(tier, workbench, host=host)
        vars(ports)["evidence"] = store
        snapshot = make.snapshot(path, declaration=declaration, source=make.source())
        return await check_name_step.fn(snapshot, ports)


@pytest.fixture
def development(world, make):
    return Development(world, make)


async def test_unused_name_may_be_built(development, make, tmp_path):
    """The first admitted image will hold the name."""
    assert await development.check(make, make.declaration(), tmp_path) is None


async def test_name_held_by_other_team_is_refused_before_build(development, make, tmp_path):
    """The result has the reason of the gate and no image."""
    development.hold(make, "somebody else")

    refused = await development.check(make, make.declaration(), tmp_path)

    assert [reason.code for reason in refused.reasons] == ["name.taken"]
    assert (refused.image, refused.application, refused.gate) == (None, "hello", Gate.INTAKE)
    assert str(refused).startswith("hello, before it is built, is refused at the intake gate:")


async def test_image_not_signed_by_curation_holds_no_name(development, make, tmp_path):
    """As at the gate, an image that the release gate refused does not count."""
    development.hold(make, "somebody else", signed=False)

    assert await development.check(make, make.declaration(), tmp_path) is None


async def test_registered_name_overrides_first_user(development, make, tmp_path):
    """A transferred name belongs to its new owner at once."""
    development.hold(make, "somebody else")
    development.register = NameRegister(names={"hello": Holder(owner=make.declaration().owner)})

    assert await development.check(make, make.declaration(), tmp_path) is None
