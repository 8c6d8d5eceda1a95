"""A block holds at every gate, and whatever else speaks for the image."""

from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.image_status import block_place, standing_place
from supply_chain.evidence.statement import LIFECYCLE, PROVENANCE
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.tier import Boundary, TierName
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.verdict import record
from tests.support.pieces import CURATION, DEV, where
from tests.unit.policy.test_dossier import BASE, LAYERS, Judged

OTHER_BASE = ImageRef(repository="curated/base/proxy", digest="sha256:" + "8" * 64)


class Standing(Judged):
    """The pieces of a good image, and what the lifecycle says of it."""

    def good(self, boundary, **provenance):
        for name, (signer, kind, predicate) in self.at(boundary).items():
            said = self.make.provenance(built=provenance) if provenance and name == "provenance" else predicate
            self.attach(where(boundary), signer, kind, said)

    def say(self, act, ref, at=0, **changes):
        when = self.make.noon + timedelta(seconds=at)
        predicate = {"act": act, "by": "ann", "why": "CVE-2026-1", "at": when.isoformat(), **changes}
        return self.attach(standing_place(ref), TierName.LIFECYCLE, LIFECYCLE, predicate)


@pytest.fixture
def pieces(world, make):
    return Standing(world, make)


@pytest.mark.parametrize("boundary", Boundary)
def test_what_is_blocked_is_refused_with_who_why_and_when(pieces, boundary):
    """For that reason alone; the statement is what the verdict rests on."""
    pieces.good(boundary)
    digest = pieces.say("block", where(boundary))

    verdict = pieces.judged(boundary)

    assert isinstance(verdict, Refused)
    ((code, fact, remedy),) = [(r.code, r.fact, r.remedy) for r in verdict.reasons]
    assert code == "image.blocked"
    assert fact == "it was blocked by ann on 2026-11-24 12:00 UTC: CVE-2026-1"
    assert "`cscm unblock`" in remedy
    assert digest in [e.digest for e in pieces.dossier(boundary).evidence]


@pytest.mark.parametrize("boundary", Boundary)
def test_what_is_unblocked_or_held_is_admitted(pieces, boundary):
    """A hold is about what is taken away."""
    pieces.good(boundary)
    pieces.say("block", where(boundary))
    pieces.say("unblock", where(boundary), at=1)
    pieces.say("hold", where(boundary), at=2)

    assert isinstance(pieces.judged(boundary), Admitted)


@pytest.mark.parametrize("boundary", Boundary)
def test_where_it_cannot_be_read_nothing_is_admitted(pieces, boundary):
    """Nor refused: nobody knows."""
    pieces.good(boundary)
    pieces.say("unblock", where(boundary), by=7)

    with pytest.raises(EvidenceInvalid):
        pieces.judged(boundary)


@pytest.mark.parametrize("boundary", Boundary)
def test_junk_beside_the_words_is_told(pieces, boundary):
    """It stops no image."""
    pieces.good(boundary)
    place = standing_place(where(boundary))
    pieces.world.registry.attach(
        place, "application/vnd.dev.sigstore.bundle.v0.3+json", b"x", {"dev.sigstore.bundle.predicateType": LIFECYCLE}
    )

    verdict = pieces.judged(boundary)

    assert isinstance(verdict, Admitted)
    assert [note for note in verdict.notes if "evidence/lifecycle/hello" in note]


def on(*materials):
    return {"materials": tuple(Material(name=name, digest=digest, curated=True) for name, digest in materials)}


@pytest.mark.parametrize("name", ["curated/base/python", f"curated/base/python@{BASE.digest}"])
@pytest.mark.parametrize("listed", [True, False])
def test_what_is_built_with_a_blocked_base_is_refused(pieces, name, listed):
    """Also where the base is archived, so that the registry does not list it."""
    pieces.good(Boundary.CURATION, **on((name, BASE.digest)))
    if listed:
        pieces.bases = (BASE,)
        pieces.vend(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Boundary.CURATION)

    assert isinstance(verdict, Refused)
    ((code, fact, remedy),) = [(r.code, r.fact, r.remedy) for r in verdict.reasons]
    assert code == "base.blocked"
    assert fact.startswith(f"{BASE}, which it is built on or with, was blocked by ann on 2026-11-24 12:00 UTC: CVE")
    assert "`cscm unblock`" in remedy


def test_what_begins_with_a_blocked_base_is_refused(pieces):
    """Whatever its build called it."""
    pieces.good(Boundary.CURATION)
    pieces.bases = (BASE,)
    pieces.vend(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Boundary.CURATION)

    assert isinstance(verdict, Refused)
    assert [r.code for r in verdict.reasons] == ["base.blocked"]


def test_a_blocked_base_under_another_name_is_found_by_its_digest(pieces):
    """The registry lists what it is."""
    pieces.good(Boundary.CURATION, **on(("python:3", BASE.digest)))
    pieces.bases = (BASE,)
    pieces.vend(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Boundary.CURATION)

    assert isinstance(verdict, Refused)
    assert [r.code for r in verdict.reasons] == ["base.blocked"]


def test_a_base_by_another_name_is_found_by_its_digest_whatever_the_build_says(pieces):
    """Nobody has to say that it is curated; boundary 2 waits for no rescan."""
    for boundary in (Boundary.CURATION, Boundary.TO_EXECUTION):
        pieces.good(boundary, materials=(Material(name="mirror.test/python", digest=BASE.digest, curated=False),))
    pieces.bases = (BASE,)
    pieces.vend(BASE, "openssl")
    for boundary in (Boundary.CURATION, Boundary.TO_EXECUTION):
        assert isinstance(pieces.judged(boundary), Admitted)
    pieces.say("block", BASE)

    for boundary in (Boundary.CURATION, Boundary.TO_EXECUTION):
        assert [r.code for r in pieces.judged(boundary).reasons] == ["base.blocked"]


@pytest.mark.parametrize("name", ["docker.io/library/Python", "registry.test/dev/base/python", f"python@{BASE.digest}"])
@pytest.mark.parametrize("boundary", [Boundary.CURATION, Boundary.TO_EXECUTION])
def test_blocked_digest_that_went_into_a_build_is_found_whatever_the_build_calls_it(pieces, name, boundary):
    """Also where no curated repository holds it: development offers it in `dev/`, or another registry does."""
    pieces.good(boundary, **on((name, BASE.digest)))
    block = {"act": "block", "by": "ann", "why": "CVE-2026-1", "at": pieces.make.noon.isoformat()}
    said = pieces.attach(block_place(BASE.digest), TierName.LIFECYCLE, LIFECYCLE, block)

    verdict = pieces.judged(boundary)

    assert [r.code for r in verdict.reasons] == ["base.blocked"]
    assert verdict.reasons[0].fact.startswith(f"{name.partition('@')[0]}@{BASE.digest}, which it is built on or with")
    assert said in [e.digest for e in pieces.dossier(boundary).evidence]


@pytest.mark.parametrize("boundary", Boundary)
def test_digest_that_was_blocked_under_another_name_is_refused(pieces, boundary):
    """Whoever may sign as development can offer a manifest as another application's."""
    pieces.good(boundary)
    block = {"act": "block", "by": "ann", "why": "x", "at": pieces.make.noon.isoformat(), "image": "curated/other@x"}
    pieces.attach(block_place(where(boundary).digest), TierName.LIFECYCLE, LIFECYCLE, block)

    assert [r.code for r in pieces.judged(boundary).reasons] == ["image.blocked"]


def test_another_base_that_is_blocked_stops_nobody(pieces, monkeypatch):
    """Nor does one that was unblocked, or a held one."""
    pieces.good(Boundary.CURATION, **on(("curated/base/python", BASE.digest)))
    monkeypatch.setitem(LAYERS, OTHER_BASE, ("sha256:" + "3" * 64,))
    pieces.bases = (OTHER_BASE,)
    pieces.say("block", OTHER_BASE)
    pieces.say("block", BASE)
    pieces.say("unblock", BASE, at=1)
    pieces.say("hold", BASE)

    assert isinstance(pieces.judged(Boundary.CURATION), Admitted)


def test_a_material_that_is_no_base_of_ours_is_asked_for_nowhere(pieces):
    """It has no repository here."""
    pieces.good(Boundary.CURATION, **on(("docker.io/library/Python", BASE.digest)))

    assert isinstance(pieces.judged(Boundary.CURATION), Admitted)


def test_what_is_built_on_what_is_built_on_a_blocked_base_is_refused(pieces):
    """The layers of both are in it, and a blocked base is archived, so that nobody sees whose they are."""
    pieces.good(Boundary.CURATION, **on(("curated/base/proxy", OTHER_BASE.digest)))
    pieces.attach(OTHER_BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/python", BASE.digest))))
    assert isinstance(pieces.judged(Boundary.CURATION), Admitted)
    pieces.say("block", BASE)

    verdict = pieces.judged(Boundary.CURATION)

    assert isinstance(verdict, Refused)
    assert [(r.code, r.fact.partition("@")[0]) for r in verdict.reasons] == [("base.blocked", "curated/base/python")]


def test_a_base_is_not_one_of_its_own(pieces):
    """It begins with its own layers, and is blocked as itself alone."""
    pieces.good(Boundary.CURATION)
    pieces.bases = (where(Boundary.CURATION),)
    pieces.vend(where(Boundary.CURATION), "openssl", "zlib1g")
    pieces.say("block", where(Boundary.CURATION))

    assert [r.code for r in pieces.judged(Boundary.CURATION).reasons] == ["image.blocked"]


def test_bases_that_name_each_other_are_looked_at_once(pieces):
    """Whoever signs such a build ends nobody's gate."""
    pieces.good(Boundary.CURATION, **on(("curated/base/proxy", OTHER_BASE.digest)))
    pieces.attach(OTHER_BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/python", BASE.digest))))
    pieces.attach(BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/proxy", OTHER_BASE.digest))))

    assert isinstance(pieces.judged(Boundary.CURATION), Admitted)


def test_a_base_whose_blocking_cannot_be_read_stops_what_is_built_on_it(pieces):
    """It may be blocked."""
    pieces.good(Boundary.CURATION, **on(("curated/base/python", BASE.digest)))
    pieces.say("unblock", BASE, why=None)

    with pytest.raises(EvidenceInvalid):
        pieces.judged(Boundary.CURATION)


def test_every_blocked_base_is_a_reason(pieces):
    """In order, so that the same verdict is the same."""
    pieces.good(
        Boundary.CURATION, **on(("curated/base/python", BASE.digest), (OTHER_BASE.repository, OTHER_BASE.digest))
    )
    pieces.say("block", BASE)
    pieces.say("block", OTHER_BASE)

    verdict = pieces.judged(Boundary.CURATION)

    assert isinstance(verdict, Refused)
    assert [r.fact.partition("@")[0] for r in verdict.reasons] == ["curated/base/proxy", "curated/base/python"]


def test_a_refusal_is_said_anew_when_the_block_is_lifted(pieces):
    """The verdict rests on the statement, so that another one is another verdict."""
    pieces.good(Boundary.TO_CURATION)
    store = pieces.world.store(CURATION)
    first = record(pieces.judged(Boundary.TO_CURATION), pieces.dossier(Boundary.TO_CURATION), store, pieces.make.noon)
    pieces.say("block", where(Boundary.TO_CURATION))
    pieces.say("unblock", where(Boundary.TO_CURATION), at=1)
    again = record(pieces.judged(Boundary.TO_CURATION), pieces.dossier(Boundary.TO_CURATION), store, pieces.make.noon)

    assert first != again


def test_development_cannot_unblock(pieces):
    """Its word is not the lifecycle's."""
    pieces.good(Boundary.TO_CURATION)
    pieces.say("block", where(Boundary.TO_CURATION))
    place = standing_place(where(Boundary.TO_CURATION))
    later = (pieces.make.noon + timedelta(seconds=9)).isoformat()
    pieces.attach(place, DEV, LIFECYCLE, {"act": "unblock", "by": "me", "why": "please", "at": later})

    assert isinstance(pieces.judged(Boundary.TO_CURATION), Refused)
    assert PROVENANCE in [e.predicate_type for e in pieces.dossier(Boundary.TO_CURATION).evidence]
