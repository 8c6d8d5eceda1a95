"""The contract of the port `PlanJournal`, for the journal in memory and the one in a file."""

from __future__ import annotations

from supply_chain.lifecycle.apply import Entry, Outcome, PlanJournal
from supply_chain.lifecycle.rules import Action
from supply_chain.model.image import ImageRef
from tests.support.builders import DIGEST

REF = ImageRef(repository="curated/hello", digest=DIGEST)


class JournalContract:
    """The tests. A subclass has a fixture `journal`, an empty journal."""

    def test_new_journal_has_no_entries(self, journal: PlanJournal) -> None:
        """The first run of a plan finds none."""
        assert journal.entries() == ()

    def test_entries_are_returned_in_the_order_of_their_steps(self, journal: PlanJournal) -> None:
        """A step that failed has another entry when it is repeated."""
        entries = [
            Entry(ref=REF, action=Action.ARCHIVE, outcome=Outcome.FAILED, code="aws.failed", message="a\nb “c”"),
            Entry(ref=REF, action=Action.ARCHIVE, outcome=Outcome.DONE),
            Entry(ref=REF, action=Action.AGE_OUT, outcome=Outcome.DONE),
        ]

        for each in entries:
            journal.add(each)

        assert journal.entries() == tuple(entries)
