"""The holder of an application name comes from the register and from what curation signed under the name before."""

import pytest

from supply_chain.evidence.statement import PROVENANCE, SIGNATURE
from supply_chain.model.declaration import Classification
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.gate import evaluate
from supply_chain.policy.names import Holder
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import find_holder, read_intake_facts
from tests.support.builders import NOON, declaration
from tests.support.facts import FACTS
from tests.support.pieces import CURATION, DEV, OFFERED, Pieces
from tests.support.policies import INTAKE, POLICIES


@pytest.fixture
def pieces(world, make):
    return Pieces(world, make)


EARLIER = ImageRef(repository="curated/hello", digest=f"sha256:{'e' * 64}")


def _held_by(pieces, owner: str, path: str) -> None:
    """Attach an image that curation signed under the same name, built by `owner` from `path`."""
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
def test_intake_gate_refuses_name_first_used_by_another_source(pieces, owner, path):
    """Nobody may replace the application of another team, or a base that others build on."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    external = pieces.development["provenance"][2]["buildDefinition"]["externalParameters"]
    _held_by(pieces, owner or external["declaration"]["owner"], path or external["source"]["path"])

    facts = read_intake_facts(OFFERED, pieces.world.store(CURATION), (EARLIER,), None)
    verdict = evaluate(facts, INTAKE, NOON)

    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == ["name.taken"]


def test_intake_gate_admits_next_revision_of_same_source(pieces):
    """The holder of a name keeps it for new revisions from the same source."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    external = pieces.development["provenance"][2]["buildDefinition"]["externalParameters"]
    _held_by(pieces, external["declaration"]["owner"], external["source"]["path"])

    facts = read_intake_facts(OFFERED, pieces.world.store(CURATION), (EARLIER,), None)

    assert facts.holder is not None
    assert isinstance(evaluate(facts, INTAKE, NOON), Admitted)


def test_intake_gate_refuses_name_reserved_for_another_owner(pieces):
    """The register counts even if nothing was admitted under the name yet."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)

    facts = read_intake_facts(OFFERED, pieces.world.store(CURATION), (), Holder(owner="platform"))

    verdict = evaluate(facts, INTAKE, NOON)
    assert isinstance(verdict, Refused)
    assert [reason.code for reason in verdict.reasons] == ["name.taken"]


@pytest.mark.parametrize("gate", Gate)
@pytest.mark.parametrize(
    ("declared", "minimum", "codes"),
    [
        ("internal", "confidential", ["name.classification"]),
        ("internal", "internal", []),
        ("confidential", "internal", []),
        ("public", "internal", ["name.classification"]),
        ("public", None, []),
    ],
)
def test_each_gate_refuses_lower_classification_than_registered(gate, declared, minimum, codes):
    """Developers choose what they declare, and policies select by it; the register may be stricter later."""
    minimum = minimum and Classification(minimum)
    facts = FACTS[gate](declaration(classification=declared), minimum_classification=minimum)

    verdict = evaluate(facts, POLICIES.select_gate(gate), NOON)

    found = [reason.code for reason in getattr(verdict, "reasons", ())]
    assert [code for code in found if code != "encryption.no-copy"] == codes


def test_intake_gate_admits_new_owner_named_in_register(pieces):
    """The register has precedence over the first user of the name."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    external = pieces.development["provenance"][2]["buildDefinition"]["externalParameters"]
    _held_by(pieces, "another team", external["source"]["path"])
    handed = Holder(owner=external["declaration"]["owner"])

    facts = read_intake_facts(OFFERED, pieces.world.store(CURATION), (EARLIER,), handed)

    assert isinstance(evaluate(facts, INTAKE, NOON), Admitted)


def test_unsigned_image_holds_no_name(pieces):
    """An image that was stored and then refused gives no right to its name."""
    for piece in pieces.development.values():
        pieces.attach(OFFERED, *piece)
    pieces.attach(EARLIER, *pieces.development["provenance"])

    assert read_intake_facts(OFFERED, pieces.world.store(CURATION), (EARLIER,), None).holder is None


def test_holder_comes_from_newest_signed_image_with_provenance(pieces):
    """A signed image without provenance is passed over."""
    silent = EARLIER.model_copy(update={"digest": "sha256:" + "f" * 64})
    pieces.attach(silent, CURATION, SIGNATURE, {})
    _held_by(pieces, "another team", ".")

    held = find_holder((silent, EARLIER), pieces.world.store(CURATION))

    assert held is not None and held.owner == "another team"
    assert find_holder((silent,), pieces.world.store(CURATION)) is None


def test_holder_passes_over_newer_unsigned_image(pieces):
    """A refused candidate is the newest image in its repository and gives no right to the name."""
    refused = EARLIER.model_copy(update={"digest": "sha256:" + "f" * 64})
    pieces.attach(refused, *pieces.development["provenance"])
    _held_by(pieces, "another team", ".")

    held = find_holder((refused, EARLIER), pieces.world.store(CURATION))

    assert held is not None and held.owner == "another team"
