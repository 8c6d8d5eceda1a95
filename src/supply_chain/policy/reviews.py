"""Reviews: a person vouches for a commit, in a document that they signed with a key of their own.

A commit exists before any image of it, and several images can be built from it. A review is therefore no evidence about
an image, but a document like a waiver, which every gate and the rescan apply.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from supply_chain.errors import DeclarationInvalid
from supply_chain.evidence.personal_decision import Words
from supply_chain.evidence.summary import Named
from supply_chain.model.documents import LIMIT, decode_document, parse_document
from supply_chain.model.image import Digest, Model, digest_of, digest_set
from supply_chain.policy.people import FILE, People, Person
from supply_chain.policy.signed_documents import DocumentKind, Unsigned, read_bundle, read_file, verify_document
from supply_chain.text import sanitize_text

DIRECTORY = Path("deployments/reviews")
COMMIT = re.compile(r"[0-9a-f]{40}")
"""The id of a commit."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""The name of a person."""
Commit = Annotated[str, StringConstraints(pattern=rf"^{COMMIT.pattern}$")]


class ReviewDocument(Model):
    """The commit that a person reviewed."""

    repository: str = Field(min_length=1, max_length=1000, description="as the provenance names it")
    revision: Commit = Field(description="the commit, with all of its digits")
    reason: Words = Field(description="what was reviewed, or where the discussion is")


class ReviewReport(Model):
    """A review as operators see it."""

    name: str
    why: str = Field(default="", description="why it does not count; empty if it does")
    repository: str = ""
    revision: str = ""
    reason: str = ""
    by: str = Field(default="", description="who signed it")


@dataclass(frozen=True)
class Review:
    """A review that somebody signed who may."""

    document: ReviewDocument
    by: str
    person: Person
    file: str
    """The name of the document's file."""
    digest: Digest
    """The digest of the document."""

    @property
    def named(self) -> Named:
        """The document as a verdict names it that rests on it."""
        return Named(uri=f"{DIRECTORY}/{self.file}", digest=digest_set(self.digest))


@dataclass(frozen=True)
class Reviews:
    """All reviews of a project."""

    valid: tuple[Review, ...] = ()
    reports: tuple[ReviewReport, ...] = ()
    """All of them, also those that do not count."""

    @cached_property
    def _of_source(self) -> Mapping[tuple[str, str], list[Review]]:
        by_commit: dict[tuple[str, str], list[Review]] = {}
        for each in self.valid:
            by_commit.setdefault((each.document.repository, each.document.revision), []).append(each)
        return by_commit

    def find_reviewers(self, build: Mapping[str, Any]) -> list[str]:
        """Return who reviewed the source of a build, whose facts these are, and did not make its last commit.

        That is nobody if the source differed from its commit, or if the committers are unknown.
        """
        return sorted({each.by for each in self.find_counted(build)})

    def find_counted(self, build: Mapping[str, Any]) -> Sequence[Review]:
        """Return the reviews of `find_reviewers`."""
        if build["uncommitted"]:
            return ()
        reviews = self._of_source.get((build["repository"], build["revision"]), ())
        return [each for each in reviews if each.person.is_independent(build["committers"])]


def read_reviews(directory: Path, people: People, now: datetime) -> Reviews:
    """Read the reviews of a directory. One that is invalid, or not signed by somebody who may review, does not count.

    A file that nobody signed is not even parsed.
    """
    valid, reports = list[Review](), list[ReviewReport]()
    for file in sorted(directory.glob("*.yaml")):
        review = _read(file, people, now)
        if isinstance(review, Review):
            valid.append(review)
            review = ReviewReport(name=file.stem, by=review.by, **review.document.model_dump())
        reports.append(review)
    return Reviews(tuple(valid), tuple(reports))


def _read(file: Path, people: People, now: datetime) -> Review | ReviewReport:
    name, content = sanitize_text(file.stem), read_file(file, LIMIT)
    if content is None:
        return ReviewReport(name=name, why="it is not a file")
    signature = verify_document(
        DocumentKind.REVIEW, file.name, content, read_bundle(file), people.keys, people.installation, now
    )
    if isinstance(signature, Unsigned):
        return ReviewReport(name=name, why=people.distrusted or signature.why)
    try:
        document = parse_review(content, file.name)
    except DeclarationInvalid as error:
        return ReviewReport(name=name, by=signature.by, why=error.message.rpartition("\n")[0])
    person = people.people[signature.by]
    if not person.review:
        why = f"{signature.by} may not review, by {FILE}"
        return ReviewReport(name=name, by=signature.by, why=why, **document.model_dump())
    return Review(document, signature.by, person, file.name, digest_of(content))


def name_review(document: ReviewDocument, by: str) -> str:
    """Return the name of the file with a person's review; raise `DeclarationInvalid` if that is no person's name."""
    if not NAME.fullmatch(by):
        raise DeclarationInvalid(f"{by} is not the name of a person.\nWrite your name as in {FILE}.")
    return f"{document.revision[:12]}-{by}.yaml"


def parse_review(content: bytes, name: str) -> ReviewDocument:
    """Return the review in a document; raise `DeclarationInvalid`, which calls it `name`."""
    return parse_document(decode_document(content, name), ReviewDocument, name)
