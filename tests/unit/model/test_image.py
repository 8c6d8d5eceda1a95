"""Digests and image references."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from supply_chain.errors import DeclarationInvalid
from supply_chain.model.image import ImageRef, Interval, Proof, Source, digest_of, shorten_digest

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


def test_digest_is_sha256_of_content():
    """The expected value is the example of FIPS 180-4."""
    assert digest_of(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("repository", ["dev/hello", "curated/base/python-build", "a0", "x_y/z__w.v/q---r"])
def test_image_ref_parses_repository_and_digest(repository):
    """Formatting gives the same text."""
    ref = ImageRef.parse(f" {repository}@{DIGEST}\n")

    assert (ref.repository, ref.digest) == (repository, DIGEST)
    assert str(ref) == f"{repository}@{DIGEST}"
    assert ImageRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "dev/hello",
        "dev/hello:latest",
        DIGEST,
        f"@{DIGEST}",
        f"dev/hello:1.0@{DIGEST}",
        f"host:5000/dev/hello@{DIGEST}",
        f"https://host/dev/hello@{DIGEST}",
        f"Dev/hello@{DIGEST}",
        f"dev//hello@{DIGEST}",
        f"/dev/hello@{DIGEST}",
        f"dev/hello/@{DIGEST}",
        f"dev/../hello@{DIGEST}",
        f"dev/.hello@{DIGEST}",
        f"dev/hel lo@{DIGEST}",
        f"dev/hello\n@{DIGEST}",
        f"-dev/hello@{DIGEST}",
        f"a@{DIGEST}",
        f"{'a' * 257}@{DIGEST}",
        f"dev/hello@{DIGEST}@{DIGEST}",
        f"dev/hello@{DIGEST[:-1]}",
        f"dev/hello@{DIGEST}0",
        f"dev/hello@{DIGEST.upper()}",
        f"dev/hello@sha512:{HEX}",
        f"dev/hello@sha256:{HEX[:-1]}g",
        f"dev/hello@ {DIGEST}",
    ],
)
def test_image_ref_refuses_text_without_full_digest(text):
    """Tags, hosts and partial digests are refused, and the error shows the right form."""
    with pytest.raises(DeclarationInvalid, match="Write"):
        ImageRef.parse(text)


@given(st.text() | st.from_regex(r"[a-z/._\-:@]{0,300}(@sha256:[0-9a-f]{60,70})?"))
def test_any_text_is_image_ref_or_declared_invalid(text):
    """No other exception may be raised, and formatting gives the same text."""
    with contextlib.suppress(DeclarationInvalid):
        assert str(ImageRef.parse(text)) == text.strip()


@pytest.mark.parametrize(
    ("repository", "application"),
    [
        ("dev/hello", "hello"),
        ("curated/base/python", "base/python"),
        ("evidence/curation/hello", "hello"),
        ("evidence/execution/base/python", "base/python"),
        ("hello", ""),
        ("evidence/curation", ""),
    ],
)
def test_application_is_repository_without_tier_prefix(repository, application):
    """The name is the same in every tier."""
    assert ImageRef(repository=repository, digest=DIGEST).application == application


def test_moved_image_ref_keeps_digest():
    """The new repository must be valid."""
    ref = ImageRef(repository="dev/hello", digest=DIGEST)

    assert ref.with_repository("curated/hello") == ImageRef(repository="curated/hello", digest=DIGEST)
    with pytest.raises(ValidationError):
        ref.with_repository("Curated/hello")


def test_short_digest_has_twelve_digits():
    """The algorithm may be left out."""
    assert shorten_digest(DIGEST) == shorten_digest(HEX) == "0123456789ab"


@pytest.mark.parametrize(("dirty", "text"), [(False, "3f2a1c0"), (True, "3f2a1c0-dirty")])
def test_short_revision_marks_uncommitted_changes(make, dirty, text):
    """The revision alone does not describe the source."""
    assert make.source(dirty=dirty).short == text
    assert isinstance(make.source(), Source)


def test_interval_refuses_negative_length_and_naive_time():
    """Such an interval was not measured."""
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)

    assert Interval(started=noon, finished=noon + timedelta(seconds=2.5)).seconds == 2.5
    with pytest.raises(ValidationError):
        Interval(started=noon, finished=noon - timedelta(microseconds=1))
    with pytest.raises(ValidationError):
        Interval(started=noon.replace(tzinfo=None), finished=noon)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, "0 s old"), (-5, "0 s old"), (59, "59 s old"), (60, "1 min old"), (7199, "1 h old"), (90000, "1 d old")],
)
def test_proof_text_has_digest_and_age(seconds, age):
    """The age is in the largest unit, rounded down and never negative."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    since = now - timedelta(seconds=seconds)

    assert Proof(evidence=(DIGEST,), since=since).describe(now) == f"already proven by {shorten_digest(DIGEST)}, {age}"


def test_proof_text_names_first_digest_and_counts_rest():
    """The text stays one line; the result has the whole list."""
    proof = Proof(evidence=(DIGEST, DIGEST, DIGEST), since=None)

    assert proof.describe(datetime.now(UTC)) == f"already proven by {shorten_digest(DIGEST)} and 2 more, of unknown age"
