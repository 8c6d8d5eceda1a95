"""A block makes every gate refuse the image, whatever other evidence it has."""

from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.image_status import block_repository, locate_image_status
from supply_chain.evidence.statement import LIFECYCLE, PROVENANCE
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.verdict import record
from tests.support.pieces import BASE, CURATION, DEV, LAYERS, Judged, where

OTHER_BASE = ImageRef(repository="curated/base/proxy", digest="sha256:" + "8" * 64)


class JudgedWithDecisions(Judged):
    """The evidence of a good image, and the lifecycle decisions about it."""

    def good(self, gate, **provenance):
        for name, (signer, kind, predicate) in self.at(gate).items():
            content = self.make.provenance(built=provenance) if provenance and name == "provenance" else predicate
            self.attach(where(gate), signer, kind, content)

    def say(self, act, ref, at=0, **changes):
        when = self.make.noon + timedelta(seconds=at)
        predicate = {"act": act, "by": "ann", "reason": "CVE-2026-1", "at": when.isoformat(), **changes}
        return self.attach(locate_image_status(ref), TierName.LIFECYCLE, LIFECYCLE, predicate)


@pytest.fixture
def pieces(world, make):
    return JudgedWithDecisions(world, make)


@pytest.mark.parametrize("gate", Gate)
def test_gate_refuses_blocked_image_with_person_time_and_reason(pieces, gate):
    """The block is the only reason, and its statement is among the evidence of the verdict."""
    pieces.good(gate)
    digest = pieces.say("block", where(gate))

    verdict = pieces.judged(gate)

    assert isinstance(verdict, Refused)
    ((code, fact, remedy),) = [(r.code, r.fact, r.remedy) for r in verdict.reasons]
    assert code == "image.blocked"
    assert fact == "it was blocked by ann on 2026-11-24 12:00 UTC: CVE-2026-1 (unverified name)"
    assert "`cscm unblock`" in remedy
    assert digest in [e.digest for e in pieces.facts(gate).evidence]


@pytest.mark.parametrize("gate", Gate)
def test_gate_admits_unblocked_and_held_image(pieces, gate):
    """A hold only affects deletion, not promotion."""
    pieces.good(gate)
    pieces.say("block", where(gate))
    pieces.say("unblock", where(gate), at=1)
    pieces.say("hold", where(gate), at=2)

    assert isinstance(pieces.judged(gate), Admitted)


@pytest.mark.parametrize("gate", Gate)
def test_gate_raises_when_image_status_is_unreadable(pieces, gate):
    """A gate neither admits nor refuses an image whose status is unknown."""
    pieces.good(gate)
    pieces.say("unblock", where(gate), by=7)

    with pytest.raises(EvidenceInvalid):
        pieces.judged(gate)


@pytest.mark.parametrize("gate", Gate)
def test_gate_notes_invalid_referrer_of_image_status(pieces, gate):
    """An invalid referrer must not stop an image."""
    pieces.good(gate)
    place = locate_image_status(where(gate))
    pieces.world.registry.attach(
        place, "application/vnd.dev.sigstore.bundle.v0.3+json", b"x", {"dev.sigstore.bundle.predicateType": LIFECYCLE}
    )

    verdict = pieces.judged(gate)

    assert isinstance(verdict, Admitted)
    assert [note for note in verdict.notes if "evidence/lifecycle/hello" in note]


def on(*materials):
    return {"materials": tuple(Material(name=name, digest=digest, curated=True) for name, digest in materials)}


@pytest.mark.parametrize("name", ["curated/base/python", f"curated/base/python@{BASE.digest}"])
@pytest.mark.parametrize("listed", [True, False])
def test_release_gate_refuses_image_built_with_blocked_base(pieces, name, listed):
    """The rule also holds for an archived base, which the registry does not list."""
    pieces.good(Gate.RELEASE, **on((name, BASE.digest)))
    if listed:
        pieces.bases = (BASE,)
        pieces.release(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    ((code, fact, remedy),) = [(r.code, r.fact, r.remedy) for r in verdict.reasons]
    assert code == "base.blocked"
    assert fact.startswith(f"{BASE}, which it is built on or with, was blocked by ann on 2026-11-24 12:00 UTC: CVE")
    assert "`cscm unblock`" in remedy


def test_release_gate_refuses_image_whose_layers_begin_with_blocked_base(pieces):
    """The layers identify the base even if the provenance does not name it."""
    pieces.good(Gate.RELEASE)
    pieces.bases = (BASE,)
    pieces.release(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [r.code for r in verdict.reasons] == ["base.blocked"]


def test_release_gate_finds_renamed_blocked_base_by_digest(pieces):
    """The registry lists the digest under the name of the base."""
    pieces.good(Gate.RELEASE, **on(("python:3", BASE.digest)))
    pieces.bases = (BASE,)
    pieces.release(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [r.code for r in verdict.reasons] == ["base.blocked"]


def test_gates_find_blocked_base_by_digest_if_material_is_not_curated(pieces):
    """The material need not be marked as curated, and the deploy gate does not wait for a rescan."""
    for gate in (Gate.RELEASE, Gate.DEPLOY):
        pieces.good(gate, materials=(Material(name="mirror.test/python", digest=BASE.digest, curated=False),))
    pieces.bases = (BASE,)
    pieces.release(BASE, "openssl")
    for gate in (Gate.RELEASE, Gate.DEPLOY):
        assert isinstance(pieces.judged(gate), Admitted)
    pieces.say("block", BASE)

    for gate in (Gate.RELEASE, Gate.DEPLOY):
        assert [r.code for r in pieces.judged(gate).reasons] == ["base.blocked"]


@pytest.mark.parametrize("name", ["docker.io/library/Python", "registry.test/dev/base/python", f"python@{BASE.digest}"])
@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_gates_refuse_blocked_digest_under_any_material_name(pieces, name, gate):
    """The rule also holds for a digest that only `dev/` or another registry offers."""
    pieces.good(gate, **on((name, BASE.digest)))
    block = {"act": "block", "by": "ann", "reason": "CVE-2026-1", "at": pieces.make.noon.isoformat()}
    digest = pieces.attach(block_repository(BASE.digest), TierName.LIFECYCLE, LIFECYCLE, block)

    verdict = pieces.judged(gate)

    assert [r.code for r in verdict.reasons] == ["base.blocked"]
    assert verdict.reasons[0].fact.startswith(f"{name.partition('@')[0]}@{BASE.digest}, which it is built on or with")
    assert digest in [e.digest for e in pieces.facts(gate).evidence]


@pytest.mark.parametrize("gate", Gate)
def test_gate_refuses_digest_blocked_under_another_application(pieces, gate):
    """Development can offer the same manifest under the name of another application."""
    pieces.good(gate)
    block = {"act": "block", "by": "ann", "reason": "x", "at": pieces.make.noon.isoformat(), "image": "curated/other@x"}
    pieces.attach(block_repository(where(gate).digest), TierName.LIFECYCLE, LIFECYCLE, block)

    assert [r.code for r in pieces.judged(gate).reasons] == ["image.blocked"]


def test_release_gate_ignores_blocked_unrelated_base(pieces, monkeypatch):
    """An unblocked or held base does not stop an image either."""
    pieces.good(Gate.RELEASE, **on(("curated/base/python", BASE.digest)))
    monkeypatch.setitem(LAYERS, OTHER_BASE, ("sha256:" + "3" * 64,))
    pieces.bases = (OTHER_BASE,)
    pieces.say("block", OTHER_BASE)
    pieces.say("block", BASE)
    pieces.say("unblock", BASE, at=1)
    pieces.say("hold", BASE)

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_release_gate_ignores_material_from_another_registry(pieces):
    """A material from another registry has no repository, and so no image status, here."""
    pieces.good(Gate.RELEASE, **on(("docker.io/library/Python", BASE.digest)))

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_release_gate_refuses_image_on_blocked_base_of_its_base(pieces):
    """The image contains the layers of both bases, and a blocked base is archived, so its layers cannot be read."""
    pieces.good(Gate.RELEASE, **on(("curated/base/proxy", OTHER_BASE.digest)))
    pieces.attach(OTHER_BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/python", BASE.digest))))
    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [(r.code, r.fact.partition("@")[0]) for r in verdict.reasons] == [("base.blocked", "curated/base/python")]


def test_release_gate_does_not_count_blocked_base_as_its_own_base(pieces):
    """A base begins with its own layers, and is refused only because it is blocked itself."""
    pieces.good(Gate.RELEASE)
    pieces.bases = (where(Gate.RELEASE),)
    pieces.release(where(Gate.RELEASE), "openssl", "zlib1g")
    pieces.say("block", where(Gate.RELEASE))

    assert [r.code for r in pieces.judged(Gate.RELEASE).reasons] == ["image.blocked"]


def test_release_gate_stops_at_bases_that_name_each_other(pieces):
    """Circular provenance must not keep the gate from a verdict."""
    pieces.good(Gate.RELEASE, **on(("curated/base/proxy", OTHER_BASE.digest)))
    pieces.attach(OTHER_BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/python", BASE.digest))))
    pieces.attach(BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/proxy", OTHER_BASE.digest))))

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_release_gate_raises_when_status_of_base_is_unreadable(pieces):
    """A base of unknown status may be blocked."""
    pieces.good(Gate.RELEASE, **on(("curated/base/python", BASE.digest)))
    pieces.say("unblock", BASE, reason=None)

    with pytest.raises(EvidenceInvalid):
        pieces.judged(Gate.RELEASE)


def test_release_gate_gives_sorted_reason_for_every_blocked_base(pieces):
    """A fixed order makes equal verdicts compare as equal."""
    pieces.good(Gate.RELEASE, **on(("curated/base/python", BASE.digest), (OTHER_BASE.repository, OTHER_BASE.digest)))
    pieces.say("block", BASE)
    pieces.say("block", OTHER_BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [r.fact.partition("@")[0] for r in verdict.reasons] == ["curated/base/proxy", "curated/base/python"]


def test_gate_records_new_verdict_after_unblock(pieces):
    """The verdict lists the status statements as evidence, so a new statement makes a new verdict."""
    pieces.good(Gate.INTAKE)
    store = pieces.world.store(CURATION)
    first = record(pieces.judged(Gate.INTAKE), pieces.facts(Gate.INTAKE), store, pieces.make.noon)
    pieces.say("block", where(Gate.INTAKE))
    pieces.say("unblock", where(Gate.INTAKE), at=1)
    again = record(pieces.judged(Gate.INTAKE), pieces.facts(Gate.INTAKE), store, pieces.make.noon)

    assert first != again


def test_gate_ignores_unblock_signed_by_development(pieces):
    """Only the lifecycle tier may change the image status."""
    pieces.good(Gate.INTAKE)
    pieces.say("block", where(Gate.INTAKE))
    place = locate_image_status(where(Gate.INTAKE))
    later = (pieces.make.noon + timedelta(seconds=9)).isoformat()
    pieces.attach(place, DEV, LIFECYCLE, {"act": "unblock", "by": "me", "reason": "please", "at": later})

    assert isinstance(pieces.judged(Gate.INTAKE), Refused)
    assert PROVENANCE in [e.predicate_type for e in pieces.facts(Gate.INTAKE).evidence]
