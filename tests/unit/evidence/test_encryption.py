"""Encryption records are read completely or not at all."""

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.encryption import EncryptionRecord, list_encryption_records, make_encryption_context
from supply_chain.evidence.statement import ENCRYPTION, TEST_RESULT, VerifiedStatement, make_image_statement
from supply_chain.model.image import ImageRef

DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef(repository="curated/hello", digest=DIGEST)
COPY = {
    "plain": DIGEST,
    "encrypted": "sha256:" + "b" * 64,
    "wrapped_key": "a2V5",
    "key": "arn:aws:kms:x:1:key/c",
    "context": make_encryption_context(DIGEST),
}
RECORD = {
    "repository": "curated/hello",
    "type": "KMS",
    "key": "arn:aws:kms:x:1:key/s",
    "rotates": True,
    "classification": "confidential",
    "copy": COPY,
    "verified": "2026-11-24T12:00:00Z",
}


def evidence(predicate, kind=ENCRYPTION):
    return VerifiedStatement(
        digest="sha256:" + "c" * 64,
        repository="curated/hello",
        statement=make_image_statement(IMAGE, kind, predicate),
        signer="curation",
    )


def test_encryption_record_is_read_back():
    """The wrapped key becomes bytes again."""
    (found,) = list_encryption_records([evidence(RECORD)])
    record = found.value

    assert record.encrypted_copy is not None and record.encrypted_copy.wrapped == b"key"
    assert EncryptionRecord.model_validate(record.predicate()) == record
    assert record.predicate()["copy"]["encrypted"] == COPY["encrypted"]


def test_encryption_records_ignore_other_statement_types():
    """Only the encryption predicate type counts."""
    assert list_encryption_records([evidence({}, TEST_RESULT)]) == ()


@pytest.mark.parametrize(
    "predicate",
    [
        {},
        {**RECORD, "rotates": False},
        {**RECORD, "type": "AES256"},
        {**RECORD, "classification": "secret"},
        {**RECORD, "copy": {**COPY, "wrapped_key": "not base64!"}},
        {**RECORD, "copy": {**COPY, "wrapped_key": "a2V5!"}},
        {**RECORD, "copy": {**COPY, "encrypted": "latest"}},
        {**RECORD, "copy": {**COPY, "protocol": "pgp"}},
        {**RECORD, "more": 1},
        {**RECORD, "verified": "2026-11-24"},
    ],
    ids=[
        "empty",
        "rotation off",
        "not KMS",
        "no such class",
        "key",
        "key and more",
        "tag",
        "protocol",
        "unknown key",
        "no instant",
    ],
)
def test_invalid_signed_encryption_record_raises(predicate):
    """An unreadable record does not prove encryption."""
    with pytest.raises(EvidenceInvalid, match=r"urn:cscm:encryption:v2.*cannot be read"):
        list_encryption_records([evidence(predicate)])


def test_encryption_record_accepts_field_names():
    """The signed name of the field `encrypted_copy` is `copy`."""
    made = EncryptionRecord(**{key: value for key, value in RECORD.items() if key != "copy"}, encrypted_copy=COPY)

    assert made == EncryptionRecord.model_validate(RECORD)


def test_encryption_record_error_names_first_problem():
    """The other problems may follow from the first."""
    with pytest.raises(EvidenceInvalid, match="Input should be 'KMS'"):
        list_encryption_records([evidence({**RECORD, "type": "AES256", "more": 1})])


@pytest.mark.parametrize("change", [{}, {"key": "arn:aws:kms:x:1:key/t"}, {"copy": None}], ids=str)
def test_encryption_records_are_equal_except_for_their_time(change):
    """Any other difference makes two records differ."""
    first = EncryptionRecord.model_validate(RECORD)
    later = EncryptionRecord.model_validate({**RECORD, **change, "verified": "2026-11-25T12:00:00Z"})

    assert first != later
    assert first.has_same_content(later) is later.has_same_content(first) is (change == {})
