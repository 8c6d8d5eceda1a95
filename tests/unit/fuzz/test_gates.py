"""Signed evidence with one changed value gives a verdict or a documented error."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supply_chain.errors import ClockWrong, EvidenceInvalid
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Admitted, Refused
from tests.support.examples import tries
from tests.support.pieces import EVERY, Judged, where
from tests.support.world import World
from tests.unit.fuzz.changes import JSON, changed

pytestmark = pytest.mark.usefixtures("without_threads")

CONFIDENTIAL = {
    "plain": "sha256:" + "a" * 64,
    "encrypted": "sha256:" + "b" * 64,
    "protocol": "jwe",
    "wrapped_key": "a2V5",
    "key": "arn:aws:kms:eu-west-1:1:key/c",
    "context": {"image": "sha256:" + "a" * 64},
}


def otherwise(predicate, name):
    """Draw the predicate with one changed value, or any other predicate."""
    plain = json.loads(json.dumps({**predicate, "copy": CONFIDENTIAL} if name == "encryption" else predicate))
    anything = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
    return changed(plain) | anything if plain else anything


@pytest.mark.parametrize(("gate", "piece"), EVERY)
@settings(tries(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_gate_judges_or_raises_documented_error(make, gate, piece, data):
    """The error says that evidence is invalid or has a time in the future."""
    pieces = Judged(World(), make)
    for name, (signer, kind, predicate) in pieces.at(gate).items():
        content = data.draw(otherwise(predicate, name)) if name == piece else predicate
        pieces.attach(where(gate), signer, kind, content)

    try:
        verdict = pieces.judged(gate)
    except (EvidenceInvalid, ClockWrong) as error:
        assert f"[{error.code}]" in str(error)
        return
    assert isinstance(verdict, Admitted | Refused)
    assert str(verdict)


def test_every_gate_is_fuzzed():
    """The list of evidence has to cover all gates."""
    assert {gate for gate, _ in EVERY} == set(Gate)
