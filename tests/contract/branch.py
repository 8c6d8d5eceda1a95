"""The contract of the port `Branch` of environments' repositories."""

from __future__ import annotations

import pytest

from supply_chain.errors import DeclarationInvalid
from supply_chain.execution.delivery.repository import Branch

PATH = "staging/hello/values.yaml"
CONTENT = b"a: 1\n"
"""The branch has this file in its only commit."""


class BranchContract:
    """What every branch does."""

    def test_branch_head_is_last_change(self, branch: Branch) -> None:
        """The next one is on top of it."""
        first = branch.read(PATH)
        second = branch.change(PATH, lambda content: content + b"b: 2\n", "one")
        third = branch.change(PATH, lambda content: content + b"c: 3\n", "two")

        assert first.content == CONTENT and third.content == b"a: 1\nb: 2\nc: 3\n"
        assert branch.read(PATH) == third and len({first.commit, second.commit, third.commit}) == 3

    def test_same_content_makes_no_commit(self, branch: Branch) -> None:
        """A promotion that is repeated changes nothing."""
        before = branch.read(PATH)

        assert branch.change(PATH, lambda content: content, "deploy") == before == branch.read(PATH)

    def test_list_changes_returns_newest_first_with_signed_flag(self, branch: Branch) -> None:
        """A person made the file, and the chain changed it since; each change is a file as the branch had it."""
        second = branch.change(PATH, lambda content: content + b"b: 2\n", "one\n\nwhy\n")
        third = branch.change(PATH, lambda content: CONTENT, "two")

        newest, earlier, oldest = branch.list_changes(PATH)

        assert (newest.revision, newest.signed) == (third, True) and newest.message == "two"
        assert (earlier.revision, earlier.signed) == (second, True) and earlier.message == "one\n\nwhy\n"
        assert oldest.revision.content == CONTENT and not oldest.signed

    def test_fetched_files_ignore_later_commits(self, branch: Branch) -> None:
        """What is compared with them is compared with one commit."""
        files, before = branch.fetch(), branch.read(PATH)
        branch.change(PATH, lambda content: content + b"b: 2\n", "one")

        assert files.read(PATH) == before
        with pytest.raises(DeclarationInvalid, match="absent"):
            files.read("absent")

    def test_error_of_edit_ends_change(self, branch: Branch) -> None:
        """A file that cannot be changed stays as it is."""

        def fail(content: bytes) -> bytes:
            raise DeclarationInvalid("no image\nno")

        with pytest.raises(DeclarationInvalid, match="no image"):
            branch.change(PATH, fail, "deploy")

        assert branch.read(PATH).content == CONTENT

    def test_missing_file_is_invalid(self, branch: Branch) -> None:
        """The chain adds no files."""
        with pytest.raises(DeclarationInvalid, match="absent"):
            branch.read("absent")
        with pytest.raises(DeclarationInvalid, match="absent"):
            branch.change("absent", lambda content: content, "deploy")
        with pytest.raises(DeclarationInvalid, match="absent"):
            branch.list_changes("absent")
