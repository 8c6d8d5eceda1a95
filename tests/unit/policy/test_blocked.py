"""A block holds at every gate, and whatever else speaks for the image."""

from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.image_status import block_repository, image_status_repository
from supply_chain.evidence.statement import LIFECYCLE, PROVENANCE
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.verdict import record
from tests.support.pieces import CURATION, DEV, where
from tests.unit.policy.test_dossier import BASE, LAYERS, Judged

OTHER_BASE = ImageRef(repository="curated/base/proxy", digest="sha256:" + "8" * 64)


class Standing(Judged):
    """The pieces of a good image, and what the lifecycle says of it."""

    def good(self, gate, **provenance):
        for name, (signer, kind, predicate) in self.at(gate).items():
            said = self.make.provenance(built=provenance) if provenance and name == "provenance" else predicate
            self.attach(where(gate), signer, kind, said)

    def say(self, act, ref, at=0, **changes):
        when = self.make.noon + timedelta(seconds=at)
        predicate = {"act": act, "by": "ann", "why": "CVE-2026-1", "at": when.isoformat(), **changes}
        return self.attach(image_status_repository(ref), TierName.LIFECYCLE, LIFECYCLE, predicate)


@pytest.fixture
def pieces(world, make):
    return Standing(world, make)


@pytest.mark.parametrize("gate", Gate)
def test_what_is_blocked_is_refused_with_who_why_and_when(pieces, gate):
    """For that reason alone; the statement is what the verdict rests on."""
    pieces.good(gate)
    digest = pieces.say("block", where(gate))

    verdict = pieces.judged(gate)

    assert isinstance(verdict, Refused)
    ((code, fact, remedy),) = [(r.code, r.fact, r.remedy) for r in verdict.reasons]
    assert code == "image.blocked"
    assert fact == "it was blocked by ann on 2026-11-24 12:00 UTC: CVE-2026-1"
    assert "`cscm unblock`" in remedy
    assert digest in [e.digest for e in pieces.dossier(gate).evidence]


@pytest.mark.parametrize("gate", Gate)
def test_what_is_unblocked_or_held_is_admitted(pieces, gate):
    """A hold is about what is taken away."""
    pieces.good(gate)
    pieces.say("block", where(gate))
    pieces.say("unblock", where(gate), at=1)
    pieces.say("hold", where(gate), at=2)

    assert isinstance(pieces.judged(gate), Admitted)


@pytest.mark.parametrize("gate", Gate)
def test_where_it_cannot_be_read_nothing_is_admitted(pieces, gate):
    """Nor refused: nobody knows."""
    pieces.good(gate)
    pieces.say("unblock", where(gate), by=7)

    with pytest.raises(EvidenceInvalid):
        pieces.judged(gate)


@pytest.mark.parametrize("gate", Gate)
def test_junk_beside_the_words_is_told(pieces, gate):
    """It stops no image."""
    pieces.good(gate)
    place = image_status_repository(where(gate))
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
def test_what_is_built_with_a_blocked_base_is_refused(pieces, name, listed):
    """Also where the base is archived, so that the registry does not list it."""
    pieces.good(Gate.RELEASE, **on((name, BASE.digest)))
    if listed:
        pieces.bases = (BASE,)
        pieces.vend(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    ((code, fact, remedy),) = [(r.code, r.fact, r.remedy) for r in verdict.reasons]
    assert code == "base.blocked"
    assert fact.startswith(f"{BASE}, which it is built on or with, was blocked by ann on 2026-11-24 12:00 UTC: CVE")
    assert "`cscm unblock`" in remedy


def test_what_begins_with_a_blocked_base_is_refused(pieces):
    """Whatever its build called it."""
    pieces.good(Gate.RELEASE)
    pieces.bases = (BASE,)
    pieces.vend(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [r.code for r in verdict.reasons] == ["base.blocked"]


def test_a_blocked_base_under_another_name_is_found_by_its_digest(pieces):
    """The registry lists what it is."""
    pieces.good(Gate.RELEASE, **on(("python:3", BASE.digest)))
    pieces.bases = (BASE,)
    pieces.vend(BASE, "openssl")
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [r.code for r in verdict.reasons] == ["base.blocked"]


def test_a_base_by_another_name_is_found_by_its_digest_whatever_the_build_says(pieces):
    """Nobody has to say that it is curated; the deploy gate waits for no rescan."""
    for gate in (Gate.RELEASE, Gate.DEPLOY):
        pieces.good(gate, materials=(Material(name="mirror.test/python", digest=BASE.digest, curated=False),))
    pieces.bases = (BASE,)
    pieces.vend(BASE, "openssl")
    for gate in (Gate.RELEASE, Gate.DEPLOY):
        assert isinstance(pieces.judged(gate), Admitted)
    pieces.say("block", BASE)

    for gate in (Gate.RELEASE, Gate.DEPLOY):
        assert [r.code for r in pieces.judged(gate).reasons] == ["base.blocked"]


@pytest.mark.parametrize("name", ["docker.io/library/Python", "registry.test/dev/base/python", f"python@{BASE.digest}"])
@pytest.mark.parametrize("gate", [Gate.RELEASE, Gate.DEPLOY])
def test_blocked_digest_that_went_into_a_build_is_found_whatever_the_build_calls_it(pieces, name, gate):
    """Also where no curated repository holds it: development offers it in `dev/`, or another registry does."""
    pieces.good(gate, **on((name, BASE.digest)))
    block = {"act": "block", "by": "ann", "why": "CVE-2026-1", "at": pieces.make.noon.isoformat()}
    said = pieces.attach(block_repository(BASE.digest), TierName.LIFECYCLE, LIFECYCLE, block)

    verdict = pieces.judged(gate)

    assert [r.code for r in verdict.reasons] == ["base.blocked"]
    assert verdict.reasons[0].fact.startswith(f"{name.partition('@')[0]}@{BASE.digest}, which it is built on or with")
    assert said in [e.digest for e in pieces.dossier(gate).evidence]


@pytest.mark.parametrize("gate", Gate)
def test_digest_that_was_blocked_under_another_name_is_refused(pieces, gate):
    """Whoever may sign as development can offer a manifest as another application's."""
    pieces.good(gate)
    block = {"act": "block", "by": "ann", "why": "x", "at": pieces.make.noon.isoformat(), "image": "curated/other@x"}
    pieces.attach(block_repository(where(gate).digest), TierName.LIFECYCLE, LIFECYCLE, block)

    assert [r.code for r in pieces.judged(gate).reasons] == ["image.blocked"]


def test_another_base_that_is_blocked_stops_nobody(pieces, monkeypatch):
    """Nor does one that was unblocked, or a held one."""
    pieces.good(Gate.RELEASE, **on(("curated/base/python", BASE.digest)))
    monkeypatch.setitem(LAYERS, OTHER_BASE, ("sha256:" + "3" * 64,))
    pieces.bases = (OTHER_BASE,)
    pieces.say("block", OTHER_BASE)
    pieces.say("block", BASE)
    pieces.say("unblock", BASE, at=1)
    pieces.say("hold", BASE)

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_a_material_that_is_no_base_of_ours_is_asked_for_nowhere(pieces):
    """It has no repository here."""
    pieces.good(Gate.RELEASE, **on(("docker.io/library/Python", BASE.digest)))

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_what_is_built_on_what_is_built_on_a_blocked_base_is_refused(pieces):
    """The layers of both are in it, and a blocked base is archived, so that nobody sees whose they are."""
    pieces.good(Gate.RELEASE, **on(("curated/base/proxy", OTHER_BASE.digest)))
    pieces.attach(OTHER_BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/python", BASE.digest))))
    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)
    pieces.say("block", BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [(r.code, r.fact.partition("@")[0]) for r in verdict.reasons] == [("base.blocked", "curated/base/python")]


def test_a_base_is_not_one_of_its_own(pieces):
    """It begins with its own layers, and is blocked as itself alone."""
    pieces.good(Gate.RELEASE)
    pieces.bases = (where(Gate.RELEASE),)
    pieces.vend(where(Gate.RELEASE), "openssl", "zlib1g")
    pieces.say("block", where(Gate.RELEASE))

    assert [r.code for r in pieces.judged(Gate.RELEASE).reasons] == ["image.blocked"]


def test_bases_that_name_each_other_are_looked_at_once(pieces):
    """Whoever signs such a build ends nobody's gate."""
    pieces.good(Gate.RELEASE, **on(("curated/base/proxy", OTHER_BASE.digest)))
    pieces.attach(OTHER_BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/python", BASE.digest))))
    pieces.attach(BASE, DEV, PROVENANCE, pieces.make.provenance(built=on(("curated/base/proxy", OTHER_BASE.digest))))

    assert isinstance(pieces.judged(Gate.RELEASE), Admitted)


def test_a_base_whose_blocking_cannot_be_read_stops_what_is_built_on_it(pieces):
    """It may be blocked."""
    pieces.good(Gate.RELEASE, **on(("curated/base/python", BASE.digest)))
    pieces.say("unblock", BASE, why=None)

    with pytest.raises(EvidenceInvalid):
        pieces.judged(Gate.RELEASE)


def test_every_blocked_base_is_a_reason(pieces):
    """In order, so that the same verdict is the same."""
    pieces.good(Gate.RELEASE, **on(("curated/base/python", BASE.digest), (OTHER_BASE.repository, OTHER_BASE.digest)))
    pieces.say("block", BASE)
    pieces.say("block", OTHER_BASE)

    verdict = pieces.judged(Gate.RELEASE)

    assert isinstance(verdict, Refused)
    assert [r.fact.partition("@")[0] for r in verdict.reasons] == ["curated/base/proxy", "curated/base/python"]


def test_a_refusal_is_said_anew_when_the_block_is_lifted(pieces):
    """The verdict rests on the statement, so that another one is another verdict."""
    pieces.good(Gate.INTAKE)
    store = pieces.world.store(CURATION)
    first = record(pieces.judged(Gate.INTAKE), pieces.dossier(Gate.INTAKE), store, pieces.make.noon)
    pieces.say("block", where(Gate.INTAKE))
    pieces.say("unblock", where(Gate.INTAKE), at=1)
    again = record(pieces.judged(Gate.INTAKE), pieces.dossier(Gate.INTAKE), store, pieces.make.noon)

    assert first != again


def test_development_cannot_unblock(pieces):
    """Its word is not the lifecycle's."""
    pieces.good(Gate.INTAKE)
    pieces.say("block", where(Gate.INTAKE))
    place = image_status_repository(where(Gate.INTAKE))
    later = (pieces.make.noon + timedelta(seconds=9)).isoformat()
    pieces.attach(place, DEV, LIFECYCLE, {"act": "unblock", "by": "me", "why": "please", "at": later})

    assert isinstance(pieces.judged(Gate.INTAKE), Refused)
    assert PROVENANCE in [e.predicate_type for e in pieces.dossier(Gate.INTAKE).evidence]
