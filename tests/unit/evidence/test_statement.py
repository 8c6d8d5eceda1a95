"""Statements: nothing else counts as a statement about this image."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.envelope import Envelope
from supply_chain.evidence.statement import PAYLOAD, TEST_RESULT, is_about, make_image_statement, read_statement
from supply_chain.model.image import ImageRef

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
GOOD = json.loads(make_image_statement(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def read(payload, payload_type=PAYLOAD):
    """Read the statement in an envelope with this payload; its signature is not verified here."""
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_statement(Envelope.model_construct(payload=content, payload_type=payload_type, signatures=()), "there")


def test_statement_is_read_back():
    """Subject, predicate type and predicate remain."""
    statement = read(GOOD)

    assert statement.predicate_type == TEST_RESULT
    assert statement.predicate == {"result": "PASSED"}
    assert statement.subject[0].digest == {"sha256": "a" * 64}


def test_statement_has_in_toto_field_names():
    """The in-toto attestation framework v1 defines them."""
    assert GOOD == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "dev/hello", "digest": {"sha256": "a" * 64}}],
        "predicateType": TEST_RESULT,
        "predicate": {"result": "PASSED"},
    }


def test_statement_ignores_unknown_fields():
    """The parsing rules of in-toto require it."""
    assert read({**GOOD, "later": 1}).predicate == {"result": "PASSED"}


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
def test_statement_with_invalid_field_is_unreadable(change):
    """An incomplete statement proves nothing."""
    with pytest.raises(EvidenceInvalid):
        read({**GOOD, **change})


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
def test_statement_about_other_image_does_not_match(subject):
    """A different digest or application name is another image."""
    assert not is_about(read({**GOOD, "subject": [subject]}), IMAGE)


@pytest.mark.parametrize("name", ["", "dev/hello", "curated/hello", "evidence/curation/hello"])
def test_statement_matches_digest_in_repositories_of_all_tiers(name):
    """Curation copies the evidence of development; a cosign signature names no repository."""
    subject = {"name": name, "digest": {"sha256": "a" * 64}}

    assert is_about(read({**GOOD, "subject": [subject]}), IMAGE)


def test_statement_matches_if_one_of_its_subjects_does():
    """A statement may be about several artifacts."""
    other = {"name": "dev/other", "digest": {"sha256": "b" * 64}}

    assert is_about(read({**GOOD, "subject": [other, *GOOD["subject"]]}), IMAGE)


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json"])
def test_statement_with_other_payload_type_is_refused(kind):
    """The signature covers the payload type."""
    with pytest.raises(EvidenceInvalid):
        read(GOOD, kind)


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"predicate": ' * 100_000], ids=["lists", "objects"])
def test_deeply_nested_statement_is_refused(deep):
    """It must crash neither the reader nor the run."""
    with pytest.raises(EvidenceInvalid):
        read(deep)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_never_a_statement(content):
    """The only error is `EvidenceInvalid`."""
    with pytest.raises(EvidenceInvalid):
        read(content)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_statement_with_arbitrary_field_is_read_or_refused(key, value):
    """The result is a statement or `EvidenceInvalid`, and the statement matches only the image it names."""
    try:
        statement = read({**GOOD, key: value})
    except EvidenceInvalid:
        return
    assert is_about(statement, IMAGE) is any(subject.digest.get("sha256") == "a" * 64 for subject in statement.subject)


def test_statement_error_is_cut_to_500_characters():
    """A payload type may be of any size, but a message may not."""
    with pytest.raises(EvidenceInvalid) as caught:
        read(GOOD, "#" * 10_000)

    assert str(caught.value).count("#") == 500 - len("its payload is '")
