"""Uses of waivers: the last verdict about an image tells which waivers it rests on."""

from typing import Any

from supply_chain.fleet.image import FleetImage, Judgement
from supply_chain.fleet.waivers import find_uses
from supply_chain.model.tier import Gate
from supply_chain.policy.waivers import WaiverReport, WaiverState, make_waiver_reference
from tests.support.snapshots import NOW, POLICY, ago, image

WAIVERS = [WaiverReport(name=name, state=WaiverState.ACTIVE) for name in ("zlib", "openssl")]


def verdict(days: float = 0, *waivers: str, **changes: Any) -> Judgement:
    given = {"gate": Gate.RELEASE, "passed": True, "at": ago(days), "policy": POLICY, "evidence": POLICY}
    named = [make_waiver_reference(name, POLICY) for name in waivers]
    return Judgement.model_validate({**given, "waivers": named, **changes})


def of(number: int, *judgements: Judgement, owner: str = "sales") -> FleetImage:
    return image(number, judgements=judgements, owner=owner)


def test_images_rest_on_the_waivers_of_their_last_verdicts() -> None:
    """An earlier verdict, or a waiver that is gone, is no use of one."""
    first = of(1, verdict(2, "openssl"), verdict(1, "zlib", "gone"))
    second = of(2, verdict(3), verdict(2, "zlib", gate=Gate.DEPLOY, environment="staging"), owner="")
    found = find_uses(WAIVERS, [first, second, of(3, verdict(1))])

    assert [(use.waiver.name, use.images, use.owners) for use in found] == [
        ("zlib", (first.ref, second.ref), ("sales",)), ("openssl", (), ()),
    ]  # fmt: skip
    assert ago(1) < NOW
