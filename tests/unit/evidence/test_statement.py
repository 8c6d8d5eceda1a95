"""Reading statements: what is no statement about this image is never taken for one."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import (
    PAYLOAD,
    PROVENANCE,
    TEST_RESULT,
    Statement,
    about,
    claimed_type,
    hinted,
    statement_in,
)
from supply_chain.image import ImageRef

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
GOOD = json.loads(about(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def bundle(payload, payload_type=PAYLOAD) -> bytes:
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return json.dumps(
        {"dsseEnvelope": {"payloadType": payload_type, "payload": base64.b64encode(content).decode()}}
    ).encode()


def test_reads_what_was_written():
    """Subject, type and predicate come back as they went in."""
    statement = statement_in(bundle(GOOD), IMAGE)

    assert statement.predicate_type == TEST_RESULT
    assert statement.predicate == {"result": "PASSED"}
    assert statement.subject[0].digest == {"sha256": "a" * 64}


def test_is_written_as_in_toto_says():
    """in-toto attestation framework v1: the names of the fields are fixed."""
    assert GOOD == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "dev/hello", "digest": {"sha256": "a" * 64}}],
        "predicateType": TEST_RESULT,
        "predicate": {"result": "PASSED"},
    }


def test_ignores_what_a_later_version_adds():
    """in-toto's parsing rules ask for it."""
    assert statement_in(bundle({**GOOD, "later": 1}), IMAGE).predicate == {"result": "PASSED"}


@pytest.mark.parametrize(
    "change",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"_type": None},
        {"subject": []},
        {"subject": None},
        {"subject": [{"name": "dev/hello"}]},
        {"subject": [{"digest": "sha256:" + "a" * 64}]},
        {"predicateType": None},
        {"predicateType": 7},
        {"predicate": None},
        {"predicate": []},
        {"predicate": "PASSED"},
    ],
    ids=str,
)
def test_a_statement_with_a_broken_field_is_unreadable(change):
    """Half a statement says nothing."""
    with pytest.raises(EvidenceInvalid):
        statement_in(bundle({**GOOD, **change}), IMAGE)


@pytest.mark.parametrize(
    "subject",
    [
        {"name": "dev/hello", "digest": {"sha256": "b" * 64}},
        {"name": "dev/hello", "digest": {"sha512": "a" * 64}},
        {"name": "dev/hello", "digest": {}},
        {"name": "dev/other", "digest": {"sha256": "a" * 64}},
        {"name": "hello", "digest": {"sha256": "a" * 64}},
        {"name": "host:5000/dev/hello", "digest": {"sha256": "a" * 64}},
        {"name": "../dev/hello", "digest": {"sha256": "a" * 64}},
        {"name": "x" * 1000, "digest": {"sha256": "a" * 64}},
    ],
    ids=lambda subject: f"{subject['name'][:20]} {subject['digest']}"[:40],
)
def test_a_statement_about_another_image_is_refused(subject):
    """Neither another digest nor another application's name will do."""
    with pytest.raises(EvidenceInvalid, match="another image"):
        statement_in(bundle({**GOOD, "subject": [subject]}), IMAGE)


@pytest.mark.parametrize("name", ["", "dev/hello", "curated/hello", "evidence/curation/hello"])
def test_a_statement_follows_the_digest_through_the_tiers(name):
    """`store` takes development's evidence along; cosign's signatures name no repository."""
    subject = {"name": name, "digest": {"sha256": "a" * 64}}

    assert statement_in(bundle({**GOOD, "subject": [subject]}), IMAGE).predicate == {"result": "PASSED"}


def test_one_fitting_subject_among_several_is_enough():
    """A statement may be about several artifacts."""
    other = {"name": "dev/other", "digest": {"sha256": "b" * 64}}

    assert statement_in(bundle({**GOOD, "subject": [other, *GOOD["subject"]]}), IMAGE)


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json", None])
def test_another_payload_type_is_refused(kind):
    """The payload type is part of what is signed; a bundle of another kind is no statement."""
    with pytest.raises(EvidenceInvalid):
        statement_in(bundle(GOOD, kind), IMAGE)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"null", b"7", b"{}", b'{"dsseEnvelope": 1}', b'{"dsseEnvelope": {"payloadType": "' + b"x" * 9],
)
def test_what_is_no_bundle_is_refused(content):
    """Rubbish is never evidence."""
    with pytest.raises(EvidenceInvalid):
        statement_in(content, IMAGE)


def test_deeply_nested_rubbish_is_refused():
    """Neither the reader nor the run falls over it."""
    deep = b"[" * 100_000

    assert claimed_type(deep) is None
    with pytest.raises(EvidenceInvalid):
        statement_in(deep, IMAGE)
    with pytest.raises(EvidenceInvalid):
        statement_in(bundle(deep), IMAGE)
    assert claimed_type(bundle(deep)) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_make_a_statement(content):
    """`EvidenceInvalid` and nothing else."""
    assert claimed_type(content) is None
    with pytest.raises(EvidenceInvalid):
        statement_in(content, IMAGE)
    with pytest.raises(EvidenceInvalid):
        statement_in(bundle(content), IMAGE)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_arbitrary_values_in_a_statement_are_read_or_refused(key, value):
    """Whatever stands in a field, the answer is a statement about this image or `EvidenceInvalid`."""
    content = bundle({**GOOD, key: value})
    claimed_type(content)
    try:
        statement = statement_in(content, IMAGE)
    except EvidenceInvalid:
        return
    assert any(subject.digest.get("sha256") == "a" * 64 for subject in statement.subject)


@given(JSON)
def test_arbitrary_json_is_no_bundle(value):
    """Nor does looking for a hint or a type in it fall over."""
    content = json.dumps(value).encode()
    claimed_type(content)
    hinted(content, "no key")
    with pytest.raises(EvidenceInvalid):
        statement_in(content, IMAGE)


def test_a_hint_of_another_key_excludes_a_bundle_and_no_hint_excludes_none(make):
    """The hint only saves work: where it says nothing, the signature is verified."""
    mine, other = make.signer(), make.signer()
    signed = mine.sign(Statement.model_validate(GOOD))
    without = json.loads(signed)
    del without["verificationMaterial"]

    assert hinted(signed, mine.public)
    assert not hinted(signed, other.public)
    assert hinted(json.dumps(without).encode(), other.public)


def test_claims_the_type_that_the_payload_says():
    """It comes from the signed bytes, not from an annotation."""
    assert claimed_type(bundle({**GOOD, "predicateType": PROVENANCE})) == PROVENANCE
    assert claimed_type(bundle({**GOOD, "predicateType": ["x"]})) is None
