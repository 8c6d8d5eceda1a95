"""Any provenance of a trusted builder is read, or noted and without effect."""

from typing import Any

from hypothesis import given

from supply_chain.evidence.statement import PROVENANCE
from supply_chain.policy.builders import find_builder_level
from supply_chain.policy.people import People, TrustedBuilder
from tests.support.attached import BUILDER, attached_statement, slsa_provenance
from tests.support.builders import DIGEST
from tests.support.examples import tries
from tests.support.signer import EcdsaSigner
from tests.unit.fuzz.changes import changed

SIGNER = EcdsaSigner()
PEOPLE = People(
    builders={"ci": TrustedBuilder(id=BUILDER, keys=(SIGNER.public,), level=3)},
    builder_keys={"ci": [SIGNER.private.public_key()]},
)


@tries(100)
@given(changed(slsa_provenance()))
def test_changed_provenance_is_read_or_noted(predicate: Any) -> None:
    """It shows a level only if it still states the listed id."""
    attached = attached_statement(SIGNER, PROVENANCE, predicate)
    found, notes = find_builder_level([attached], DIGEST, PEOPLE)

    assert (found is None) is bool(notes)
    assert found is None or predicate["runDetails"]["builder"]["id"] == BUILDER
