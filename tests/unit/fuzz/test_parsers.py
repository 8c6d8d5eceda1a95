"""Parsers and reference types return an equal value after a round trip, or raise the documented error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from cscm_laptop.engine import parse_engine_version
from cscm_laptop.vulndb import FEED
from cscm_laptop.vulndb.feed.compile import compile_feed
from cscm_laptop.vulndb.feed.model import read_feed
from supply_chain.adapters.vulndb import has_distribution
from supply_chain.model.image import (
    COMPONENT,
    DIGEST,
    Digest,
    ImageRef,
    Repository,
    parse_application_name,
    shorten_digest,
)
from supply_chain.model.tier import (
    TierName,
    name_curated_repository,
    name_development_repository,
    name_evidence_repository,
)
from supply_chain.policy.names import Holder, NameRegister
from supply_chain.text import sanitize_lines, sanitize_text
from supply_chain.vulnerability.findings import Distribution
from tests.support.examples import tries

component = st.from_regex(r"\A[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}\Z")
names = st.lists(component, min_size=1, max_size=3).map("/".join).filter(lambda text: len(text) > 1)
digests = st.binary(min_size=32, max_size=32).map(lambda value: f"sha256:{value.hex()}")


@given(names, digests)
def test_image_reference_survives_a_round_trip(name: str, digest: str) -> None:
    """The repositories of all tiers have the same application name."""
    ref = ImageRef(repository=name_development_repository(name), digest=digest)

    assert ImageRef.parse(str(ref)) == ref == ImageRef.parse(f"  {ref}\n")
    assert ImageRef.model_validate_json(ref.model_dump_json()) == ref
    assert ref.application == name
    for repository in (name_curated_repository(name), *(name_evidence_repository(tier, name) for tier in TierName)):
        assert ref.with_repository(repository).application == parse_application_name(repository) == name
    assert digest.removeprefix("sha256:").startswith(shorten_digest(digest)) and len(shorten_digest(digest)) == 12


@pytest.mark.parametrize(("kind", "form"), [(Digest, DIGEST), (Repository, rf"{COMPONENT}(?:/{COMPONENT})*")])
@given(data=st.data())
def test_digest_and_repository_match_their_pattern_completely(kind: Any, form: str, data: st.DataObject) -> None:
    """A final line break, digits of another script and upper case are refused."""
    near = digests | names | st.from_regex(form)
    near = near | near.map(str.upper) | near.map(lambda each: f"{each}\n")
    text = data.draw(st.text(max_size=80) | near)
    adapter: TypeAdapter[str] = TypeAdapter(kind)

    if re.fullmatch(form, text, re.ASCII) and 2 <= len(text) <= 256:
        assert adapter.validate_python(text) == text
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(text)


@given(st.text(max_size=30) | st.from_regex(r"\d{1,5}\.\d{1,5}.*"))
def test_engine_version_of_any_text_is_read_or_zero(text: str) -> None:
    """An engine may report any text as its version."""
    begins = re.match(r"(\d+)\.(\d+)", text)

    assert parse_engine_version(text) == (tuple(map(int, begins.groups())) if begins else (0, 0))


@given(st.integers(0, 9999), st.integers(0, 9999), st.text(max_size=10))
def test_engine_version_ignores_suffix(major: int, minor: int, rest: str) -> None:
    """Distributions add their own suffixes."""
    assert parse_engine_version(f"{major}.{minor}~{rest}") == (major, minor)


@given(names, names)
def test_name_register_prefers_name_to_pattern(name: str, other: str) -> None:
    """The entry of one name applies to no other name."""
    own, all_below = Holder(repository="own"), Holder(repository="all")
    register = NameRegister(names={name: own, f"{name}/*": all_below})

    assert register.of(name) == own
    assert register.of(f"{name}/{other}") == all_below
    assert register.of(f"{other}/{name}") is None or f"{other}/{name}".startswith(f"{name}/")


@given(st.text())
def test_plain_text_is_stable_and_without_control_characters(text: str) -> None:
    """It adds no lines and no direction marks."""
    plain = sanitize_text(text)

    assert sanitize_text(plain) == plain and sanitize_lines(plain) == plain
    assert len(plain) == len(text)
    assert sanitize_lines(text).count("\n") == text.count("\n")
    assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in plain)
    plain.encode()


@tries(100)
@given(name=st.text(max_size=10), version=st.text(max_size=10), codename=st.text(max_size=5))
def test_any_distribution_is_known_or_unknown_without_error(
    starter: Path, name: str, version: str, codename: str
) -> None:
    """An os-release file may contain any text."""
    has_data = has_distribution(starter, Distribution(name=name, version=version, codename=codename))

    assert not has_data or name.lower() in ("debian", "raspbian")


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with the distributions of the starter database."""
    directory = tmp_path_factory.mktemp("database")
    (directory / "6").mkdir()
    feed = read_feed(FEED).model_copy(update={"go": [], "python": []})
    compile_feed(feed, directory / "6/vulnerability.db", "x")
    return directory
