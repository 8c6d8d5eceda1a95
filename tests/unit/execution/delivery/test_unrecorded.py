"""Which commits of a file are promotions that no record names, and how they are reverted."""

from __future__ import annotations

import pytest

from supply_chain.execution.delivery.images import ImageFile
from supply_chain.execution.delivery.repository import FileChange, Revision
from supply_chain.execution.delivery.unrecorded import Unrecorded, find_unrecorded

IMAGE = "registry/curated/hello"
FILE = ImageFile("kustomization.yaml", "kustomize", IMAGE)
START = f"images:\n- name: hello\n  newName: {IMAGE}\n".encode()
A, B, C = ("sha256:" + each * 64 for each in "abc")


def with_digest(digest: str, more: bytes = b"") -> bytes:
    return (FILE.set_digest(START, digest) if digest else START) + more


def change(name: str, digest: str, message: str | None = None, *, signed: bool = True, more: bytes = b"") -> FileChange:
    """Return a promotion, or a commit with another message."""
    text = f"deploy\n\n{FILE.describe(digest)}\nRun: 1\n" if message is None else message
    return FileChange(Revision(name, with_digest(digest, more)), text, signed)


def by_hand(name: str, digest: str, more: bytes = b"") -> FileChange:
    return change(name, digest, "by hand", signed=False, more=more)


@pytest.mark.parametrize(
    ("changes", "recorded", "promotions", "before"),
    [
        ([change("2", B), change("1", A)], A, {"2": B}, A),
        ([change("3", C), change("2", B), change("1", A), by_hand("0", "")], A, {"3": C, "2": B}, A),
        ([change("2", B), change("1", A), by_hand("0", "")], "", {"2": B, "1": A}, ""),
        ([change("1", A), by_hand("0", "")], A, {}, A),
        ([by_hand("2", B), change("1", A)], A, {}, B),
        ([by_hand("1", ""), by_hand("0", "")], "", {}, ""),
        ([change("2", B, signed=False), change("1", A)], A, {}, B),
        ([change("2", B, "Revert"), change("1", A)], A, {}, B),
        ([change("2", B, FILE.describe(C)), change("1", A)], A, {}, B),
        ([change("2", B, FILE.describe(B) + "0"), change("1", A)], A, {}, B),
        ([change("3", C), by_hand("2", B), change("1", A)], A, {"3": C}, B),
        ([change("3", A), change("2", B), change("1", A)], A, {}, A),
        ([change("3", A), change("2", B), change("1", A), by_hand("0", "")], B, {"3": A}, B),
        ([change("2", B)], A, {}, B),
    ],
)
def test_promotions_since_recorded_one_are_found(changes, recorded, promotions, before):
    """Until what is recorded, what somebody else committed, or a revert; the oldest commit says nothing of itself."""
    assert find_unrecorded(FILE, changes, recorded) == Unrecorded(with_digest(before), promotions)


def test_other_changes_of_the_file_do_not_hide_promotion():
    """Somebody changed something else after it; the image itself came into the file by hand."""
    began = FileChange(Revision("0", b"resources: []\n"), "by hand", signed=False)
    named = by_hand("1", "")
    changes = [by_hand("3", A, b"namePrefix: x\n"), change("2", A), named, began]

    assert find_unrecorded(FILE, changes, "") == Unrecorded(START, {"2": A})
    assert find_unrecorded(FILE, [named, began], "a") == Unrecorded(START, {})


def test_file_with_two_digests_is_no_promotion():
    """A promotion sets all to one."""
    two = START + f"- name: other\n  newName: {IMAGE}\n  digest: {A}\n".encode()
    twice = FileChange(Revision("2", two), FILE.describe(A), signed=True)

    assert find_unrecorded(FILE, [twice, change("1", B)], B) == Unrecorded(two, {})


@pytest.mark.parametrize(
    ("before", "content", "reverted"),
    [
        (with_digest(""), with_digest(B), with_digest("")),
        (with_digest(A), with_digest(B), with_digest(A)),
        (with_digest(A), with_digest(B, b"x: 1\n"), with_digest(A, b"x: 1\n")),
        (with_digest(A, b"x: 1\n"), with_digest(B), with_digest(A)),
        (with_digest(""), with_digest(B, b"x: 1\n"), with_digest(B, b"x: 1\n")),
        (with_digest(A), with_digest(C), with_digest(C)),
        (with_digest(A), START + with_digest(B)[8:], START + with_digest(B)[8:]),
    ],
)
def test_revert_takes_back_digest_alone(before, content, reverted):
    """A digest that is not of these promotions stays, as does the file if it had none and was changed otherwise."""
    assert Unrecorded(before, {"1": B}).revert(FILE, content) == reverted


def test_newer_promotion_comes_first():
    """The revert names them in this order."""
    assert list(Unrecorded(START, {"1": A}).add("2", B).promotions.items()) == [("2", B), ("1", A)]
