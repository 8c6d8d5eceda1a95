"""Reading statements: what is no statement about this image is never taken for one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.envelope import Envelope
from supply_chain.evidence.statement import PAYLOAD, TEST_RESULT, about, is_about, read_statement
from supply_chain.model.image import ImageRef

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="dev/hello", digest=DIGEST)
GOOD = json.loads(about(IMAGE, TEST_RESULT, {"result": "PASSED"}).bytes())

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def read(payload, payload_type=PAYLOAD):
    """The statement in an envelope around this; who signed it is not asked here."""
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_statement(Envelope.model_construct(payload=content, payload_type=payload_type, signatures=()), "there")


def test_reads_what_was_written():
    """Subject, type and predicate come back as they went in."""
    statement = read(GOOD)

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
def test_a_statement_with_a_broken_field_is_unreadable(change):
    """Half a statement says nothing."""
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
def test_a_statement_about_another_image_is_not_about_this_one(subject):
    """Neither another digest nor another application's name will do."""
    assert not is_about(read({**GOOD, "subject": [subject]}), IMAGE)


@pytest.mark.parametrize("name", ["", "dev/hello", "curated/hello", "evidence/curation/hello"])
def test_a_statement_follows_the_digest_through_the_tiers(name):
    """`store` takes development's evidence along; cosign's signatures name no repository."""
    subject = {"name": name, "digest": {"sha256": "a" * 64}}

    assert is_about(read({**GOOD, "subject": [subject]}), IMAGE)


def test_one_fitting_subject_among_several_is_enough():
    """A statement may be about several artifacts."""
    other = {"name": "dev/other", "digest": {"sha256": "b" * 64}}

    assert is_about(read({**GOOD, "subject": [other, *GOOD["subject"]]}), IMAGE)


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json"])
def test_another_payload_type_is_refused(kind):
    """The payload type is part of what is signed; a bundle of another kind is no statement."""
    with pytest.raises(EvidenceInvalid):
        read(GOOD, kind)


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"predicate": ' * 100_000], ids=["lists", "objects"])
def test_deeply_nested_rubbish_is_refused(deep):
    """Neither the reader nor the run falls over it."""
    with pytest.raises(EvidenceInvalid):
        read(deep)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_make_a_statement(content):
    """`EvidenceInvalid` and nothing else."""
    with pytest.raises(EvidenceInvalid):
        read(content)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_arbitrary_values_in_a_statement_are_read_or_refused(key, value):
    """Whatever stands in a field, the answer is a statement or `EvidenceInvalid`; it is about what it names."""
    try:
        statement = read({**GOOD, key: value})
    except EvidenceInvalid:
        return
    assert is_about(statement, IMAGE) is any(subject.digest.get("sha256") == "a" * 64 for subject in statement.subject)


def test_an_error_tells_the_first_of_a_long_story():
    """A payload's type can be of any size; a message is not."""
    with pytest.raises(EvidenceInvalid) as caught:
        read(GOOD, "#" * 10_000)

    assert str(caught.value).count("#") == 500 - len("its payload is '")
