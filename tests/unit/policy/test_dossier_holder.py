"""Whose a name is, as the dossier has it: by the register, and by what curation signed under the name before."""

import pytest

from supply_chain.evidence.statement import PROVENANCE, SIGNATURE
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy import dossier as dossiers
from supply_chain.policy.gate import judge
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.rules import POLICIES
from tests.support.pieces import CURATION, DEV, OFFERED, Pieces


@pytest.fixture
def pieces(world, make):
    return Pieces(world, make)


EARLIER = ImageRef(repository="curated/hello", digest=f"sha256:{'e' * 64}")


def _held_by(pieces, owner: str, path: str) -> None:
    """An image that curation signed under the same name, built by `owner` from `path`."""
    provenance = pieces.development["provenance"][2]
    external = provenance["buildDefinition"]["externalParameters"]
    mine = {
        **external,
        "declaration": {**external["declaration"], "owner": owner},
        "source": {**external["source"], "path": path},
    }
    other = {**provenance, "buildDefinition": {**provenance["buildDefinition"], "externalParameters": mine}}
    pieces.attach(EARLIER, DEV, PROVENANCE, other)
    pieces.attach(EARLIER, CURATION, SIGNATURE, {})


@pytest.mark.parametrize(("owner", "path"), [("another team", None), (None, "elsewhere")])
def test_a_name_belongs_to_whoever_was_admitted_under_it_first(pieces, owner, path):
    """Nobody replaces another team's application, or a base that everybody builds on."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    external = pieces.development["provenance"][2]["buildDefinition"]["externalParameters"]
    _held_by(pieces, owner or external["declaration"]["owner"], path or external["source"]["path"])

    dossier = dossiers.candidate(OFFERED, pieces.world.store(CURATION), (EARLIER,), None)
    verdict = judge(dossier, POLICIES[Gate.INTAKE])

    assert [reason.code for reason in verdict.reasons] == ["name.taken"]


def test_whoever_holds_a_name_goes_on_using_it(pieces):
    """The next revision of the same application from the same place."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    external = pieces.development["provenance"][2]["buildDefinition"]["externalParameters"]
    _held_by(pieces, external["declaration"]["owner"], external["source"]["path"])

    dossier = dossiers.candidate(OFFERED, pieces.world.store(CURATION), (EARLIER,), None)

    assert dossier.holder is not None
    assert isinstance(judge(dossier, POLICIES[Gate.INTAKE]), Admitted)


def test_a_reserved_name_is_not_free_for_the_first_who_asks(pieces):
    """What the platform's owner wrote down counts before anything was ever admitted."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)

    dossier = dossiers.candidate(OFFERED, pieces.world.store(CURATION), (), Holder(owner="platform"))

    assert [reason.code for reason in judge(dossier, POLICIES[Gate.INTAKE]).reasons] == ["name.taken"]


def test_a_name_is_handed_over_by_writing_its_new_owner_down(pieces):
    """The register comes before who was first."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    external = pieces.development["provenance"][2]["buildDefinition"]["externalParameters"]
    _held_by(pieces, "another team", external["source"]["path"])
    handed = Holder(owner=external["declaration"]["owner"])

    dossier = dossiers.candidate(OFFERED, pieces.world.store(CURATION), (EARLIER,), handed)

    assert isinstance(judge(dossier, POLICIES[Gate.INTAKE]), Admitted)


def test_an_image_that_nobody_signed_holds_no_name(pieces):
    """What was stored and then refused gives no right to its name."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    pieces.attach(EARLIER, *pieces.development["provenance"])

    assert dossiers.candidate(OFFERED, pieces.world.store(CURATION), (EARLIER,), None).holder is None


def test_a_name_is_held_by_the_last_image_that_says_who_built_it(pieces):
    """One that was signed without provenance settles nothing; what was signed before it does."""
    silent = EARLIER.model_copy(update={"digest": "sha256:" + "f" * 64})
    pieces.attach(silent, CURATION, SIGNATURE, {})
    _held_by(pieces, "another team", ".")

    held = dossiers.holder((silent, EARLIER), pieces.world.store(CURATION))

    assert held is not None and held.owner == "another team"
    assert dossiers.holder((silent,), pieces.world.store(CURATION)) is None


def test_an_image_that_nobody_signed_does_not_hide_the_one_before(pieces):
    """A candidate that was refused is the newest in its repository, and is passed over."""
    refused = EARLIER.model_copy(update={"digest": "sha256:" + "f" * 64})
    pieces.attach(refused, *pieces.development["provenance"])
    _held_by(pieces, "another team", ".")

    held = dossiers.holder((refused, EARLIER), pieces.world.store(CURATION))

    assert held is not None and held.owner == "another team"
