"""Digests and references: what names content, and what does not."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from supply_chain.errors import DeclarationInvalid
from supply_chain.model.image import ImageRef, Interval, Proof, Source, digest_of, short

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


def test_content_is_called_by_its_sha256():
    """As FIPS 180-4's own example has it."""
    assert digest_of(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("repository", ["dev/hello", "curated/base/python-build", "a0", "x_y/z__w.v/q---r"])
def test_reads_a_repository_and_a_digest(repository):
    """And writes them as it read them."""
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
def test_refuses_what_does_not_name_content(text):
    """Tags, hosts and half a digest; with what to write instead."""
    with pytest.raises(DeclarationInvalid, match="Write"):
        ImageRef.parse(text)


@given(st.text() | st.from_regex(r"[a-z/._\-:@]{0,300}(@sha256:[0-9a-f]{60,70})?"))
def test_any_text_is_a_reference_or_declared_invalid(text):
    """`DeclarationInvalid` is all that may come out, and what is read is written the same."""
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
def test_the_application_is_what_the_tier_has_not_put_before_it(repository, application):
    """The same in every tier."""
    assert ImageRef(repository=repository, digest=DIGEST).application == application


def test_moves_without_changing_its_content():
    """Another repository, the same digest; nothing that is no repository."""
    ref = ImageRef(repository="dev/hello", digest=DIGEST)

    assert ref.moved_to("curated/hello") == ImageRef(repository="curated/hello", digest=DIGEST)
    with pytest.raises(ValidationError):
        ref.moved_to("Curated/hello")


def test_a_short_digest_is_for_people():
    """Twelve digits, with or without the algorithm before them."""
    assert short(DIGEST) == short(HEX) == "0123456789ab"


@pytest.mark.parametrize(("dirty", "text"), [(False, "3f2a1c0"), (True, "3f2a1c0-dirty")])
def test_a_revision_with_changes_is_marked(make, dirty, text):
    """It is not all of the truth."""
    assert make.source(dirty=dirty).short == text
    assert isinstance(make.source(), Source)


def test_time_goes_forward():
    """An interval that ends before it begins was not measured."""
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)

    assert Interval(started=noon, finished=noon + timedelta(seconds=2.5)).seconds == 2.5
    with pytest.raises(ValidationError):
        Interval(started=noon, finished=noon - timedelta(microseconds=1))
    with pytest.raises(ValidationError):
        Interval(started=noon.replace(tzinfo=None), finished=noon)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s old"), (-5, "0 s old"), (59, "59 s old"), (60, "1 min old"), (7199, "1 h old"), (90000, "1 d old")],
)
def test_a_proof_tells_which_evidence_and_how_old(seconds, told):
    """In the largest unit, rounded down; a clock that is behind makes no negative age."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    since = now - timedelta(seconds=seconds)

    assert Proof(evidence=(DIGEST,), since=since).told(now) == f"already proven by {short(DIGEST)}, {told}"


def test_a_proof_of_several_names_the_first_and_counts_the_rest():
    """A line has to stay a line; the whole list is in the result."""
    proof = Proof(evidence=(DIGEST, DIGEST, DIGEST), since=None)

    assert proof.told(datetime.now(UTC)) == f"already proven by {short(DIGEST)} and 2 more, of unknown age"
