"""Content that no scanner judges: what the base has too, and what the owner accepts."""

import pytest
from pydantic import ValidationError

from supply_chain.evidence.examination import Archive, Contradiction, Database, Examination, Identity, matches
from supply_chain.model.declaration import Unjudged

ZIP, OTHER = (Archive(path=f"/srv/{name}.zip", format="zip", sha256=name * 64) for name in "ab")
DPKG = Database(path="/opt/x/var/lib/dpkg", manager="dpkg")
VERSION = Contradiction(path="/etc/debian_version", fact="it names the version 11")
FOUND = Examination(archives=(ZIP, OTHER), databases=(DPKG,), contradictions=(VERSION,), conflicts=("x",), unlisted=1)


@pytest.mark.parametrize(
    ("path", "patterns", "fits"),
    [
        ("/srv/a", ["/srv/a"], True),
        ("/srv/a", ["/srv/*"], True),
        ("/srv/a/b", ["/srv/*"], True),
        ("/srvs/a", ["/srv/*"], False),
        ("/srv", ["/srv/*"], False),
        ("/srv/a", ["/srv/b", "/srv/a"], True),
        ("/srv/ab", ["/srv/a"], False),
        ("/srv/a", [], False),
    ],
)
def test_path_pattern_matches_path_or_directory_prefix(path, patterns, fits):
    """No other character has a special meaning."""
    assert matches(path, patterns) is fits


def test_without_removes_content_equal_to_that_of_base():
    """Path and content must be equal; conflicts and contradictions remain with the image."""
    base = Examination(archives=(ZIP, OTHER.model_copy(update={"sha256": "c" * 64})), databases=(DPKG,))

    left = FOUND.exclude_bases([Examination(), base])

    assert (left.archives, left.databases) == ((OTHER,), (DPKG,))
    assert (left.contradictions, left.conflicts, left.unlisted) == ((VERSION,), ("x",), 1)
    assert FOUND.exclude_bases([]) == FOUND


@pytest.mark.parametrize(
    ("what", "at", "left"),
    [
        ("archive", "/srv/*", (0, 1, 1)),
        ("archive", "/srv/a.zip", (1, 1, 1)),
        ("database", "/opt/x/var/lib/dpkg", (2, 0, 1)),
        ("database", "/srv/*", (2, 1, 1)),
        ("distribution", "/etc/debian_version", (2, 1, 0)),
        ("archive", "/etc/debian_version", (2, 1, 1)),
    ],
)
def test_owner_accepts_only_content_of_named_kind_and_path(what, at, left):
    """Kind and path must both match."""
    found = FOUND.exclude_accepted([Unjudged(what=what, at=(at,), reason="it is well")])

    assert (len(found.archives), len(found.databases), len(found.contradictions)) == left
    assert found.conflicts == ("x",)


def test_number_of_unlisted_archives_cannot_be_negative():
    """A negative number would subtract listed archives."""
    assert Examination(unlisted=0) == Examination()
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Examination(unlisted=-1)


def test_distribution_text_has_name_and_version():
    """A distribution without a version has only a name."""
    assert (str(Identity(id="debian", version="12")), str(Identity(id="arch"))) == ("debian 12", "arch")
