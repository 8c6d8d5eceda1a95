"""The check of identifiers: `scripts.names`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.names import Banned, banned_in, check, lowered

BANNED = Banned({"dossier": "facts", "told": "notified"}, {"turn": "lock", "known": "images"})


def names_in(source: str, path: str = "src/shop/app.py") -> list[str]:
    """Return the banned names of a module."""
    return [each.name for each in banned_in(Path(path), source, BANNED)]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def read_dossier(): ...", "read_dossier"),
        ("async def told(): ...", "told"),
        ("def test_owner_is_told(): ...", "test_owner_is_told"),
        ("async def test_owner_is_told(): ...", "test_owner_is_told"),
        ("class IntakeDossier: ...", "IntakeDossier"),
        ("def read(dossier): ...", "dossier"),
        ("def read(*, dossier=None): ...", "dossier"),
        ("DOSSIER = 1", "DOSSIER"),
        ("for told in (): ...", "told"),
        ("x = [told for told in ()]", "told"),
        ("self.told = 1", "told"),
        ("import x as told", "told"),
        ("try: ...\nexcept X as told: ...", "told"),
        ("match x:\n    case [told]: ...", "told"),
        ("_turn = 1", "_turn"),
    ],
)
def test_banned_name_is_found_in_every_definition(source: str, name: str) -> None:
    """A name can enter by any kind of definition."""
    assert names_in(source) == [name]


@pytest.mark.parametrize("source", ["known_exploited = turn_on = 1", "x = dossier.read()", "'told'"])
def test_other_names_are_allowed(source: str) -> None:
    """These are parts of good names, names of others, and texts."""
    assert names_in(source) == []


@pytest.mark.parametrize(("name", "is_too_long"), [("test_".ljust(69, "a"), False), ("test_".ljust(70, "a"), True)])
def test_name_of_test_has_fewer_than_70_characters(name: str, is_too_long: bool) -> None:
    """Other names are not limited."""
    assert names_in(f"def {name}(): ...") == [name] * is_too_long
    assert names_in(f"def {'a' * 70}(): ...") == []


@pytest.mark.parametrize("path", ["src/told/app.py", "src/shop/dossier.py"])
def test_banned_file_or_directory_is_found(path: str) -> None:
    """Its name is how others import it."""
    assert len(names_in("", path)) == 1


def test_message_has_place_name_and_better_word() -> None:
    """The reader corrects it without a search."""
    found = [*banned_in(Path("app.py"), "\n\ndossier = 1", BANNED)]

    assert check(found, {}) == ["app.py:3: `dossier`: use facts"]


def test_exceptions_allow_their_number_and_only_fall() -> None:
    """A new definition is an error, and so is an exception that is too high."""
    found = [*banned_in(Path("app.py"), "told = 1\ntold = 2", BANNED)]

    assert check(found, {"told": 2}) == []
    assert len(check(found, {"told": 1})) == 2
    assert check(found, {"told": 3, "turn": 1}) == [
        "exceptions.yaml: `told` has 2 definitions: run `python -m scripts.names --lower`",
        "exceptions.yaml: `turn` has 0 definitions: run `python -m scripts.names --lower`",
    ]
    assert lowered(found, {"told": 3, "turn": 1}) == {"told": 2}
    assert lowered(found, {"told": 1}) == {"told": 1}
