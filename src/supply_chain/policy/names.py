"""Who holds an application's name: the name register decides, then the last signed image."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from supply_chain.errors import SettingInvalid
from supply_chain.model.declaration import Base, Classification, Name, Service, Word
from supply_chain.model.documents import decode_document, parse_document, read_content
from supply_chain.model.image import PATH, Model, Source

Pattern = Annotated[str, StringConstraints(pattern=rf"^{PATH}(?:/\*)?$", min_length=2, max_length=128)]
"""A name, or every name below one: `base/*`."""
MinimumClassification = Callable[[str], Classification | None]
"""Function that returns the lowest classification that may be declared under a name; None if each may be."""
RESERVED = ("base/", "upstream/")
"""Prefixes that are reserved whatever the register contains, because everybody builds on the images there."""


class NamedSource(Model):
    """A source that may use a name: a repository, and one directory in it or any."""

    repository: str = Field(min_length=1, description="the git remote, without a user or password")
    path: str | None = Field(default=None, description="a directory in the repository; null: any")

    def __str__(self) -> str:
        return f"{self.repository}, {self.path}" if self.path else self.repository

    def includes(self, holder: Holder) -> bool:
        """Return whether the holder builds from this source."""
        return holder.repository == self.repository and self.path in (None, holder.path)


class Holder(Model):
    """The holder of a name. Fields that are None are not settled: the first admission settles them."""

    kind: Literal["service", "base"] | None = Field(default=None, description="as declared")
    owner: Word | None = Field(default=None, description="as declared")
    repository: str | None = Field(default=None, description="the git remote, or the directory's name")
    path: str | None = Field(default=None, description="the application's directory in the repository")
    sources: tuple[Literal["project"] | NamedSource, ...] | None = Field(
        default=None,
        description="in place of repository and path, several sources; `project` is the chain's own checkout",
    )
    classification: Classification | None = Field(
        default=None, description="the lowest that may be declared; of several entries that match, the highest counts"
    )

    def __str__(self) -> str:
        if self.sources == ():
            return "reserved for the sources that the name register lists, which are none"
        where = f" in {self.repository}" if self.repository else ""
        if self.sources is not None:
            where = f" in {' or '.join(map(str, self.sources))}"
        below = f", {self.path}" if self.path else ""
        return f"the {self.kind or 'application'} of {self.owner or 'anybody'}{where}{below}"

    @classmethod
    def of(cls, declaration: Service | Base, source: Source) -> Holder:
        """Return the holder that builds this declaration from this source."""
        return cls(kind=declaration.kind, owner=declaration.owner, repository=source.repository, path=source.path)

    def holds_for(self, other: Holder) -> bool:
        """Return whether everything that is settled here is the same in `other`, which is of any classification."""
        own = ((key, value) for key, value in self if key not in ("sources", "classification"))
        settled = ((key, value) for key, value in own if value is not None)
        listed = [each for each in self.sources or () if isinstance(each, NamedSource)]
        here = self.sources is None or any(each.includes(other) for each in listed)
        return here and all(getattr(other, key) == value for key, value in settled)

    def inherit_fields(self, earlier: Holder | None) -> Holder:
        """Return this holder, with fields that it does not settle taken from `earlier`.

        Listed sources settle repository and path.
        """
        before = {k: v for k, v in earlier or Holder() if self.sources is None or k not in ("repository", "path")}
        return Holder(**{**before, **{k: v for k, v in self if v is not None}})

    def with_project(self, repository: str | None) -> Holder:
        """Return the holder with `project` replaced by the repository of the project's checkout.

        `repository` is None if the source is not in that checkout: then `project` stands for no source.
        """
        if self.sources is None:
            return self
        project = (NamedSource(repository=repository),) if repository else ()
        sources = (each if isinstance(each, NamedSource) else project for each in self.sources)
        named = (source for each in sources for source in ([each] if isinstance(each, NamedSource) else each))
        return self.model_copy(update={"sources": tuple(named)})


def find_settled_holder(registered: Holder | None, latest: Holder | None) -> Holder | None:
    """Return who holds a name: the register takes precedence over the source of the last signed image."""
    return registered.inherit_fields(latest) if registered else latest


class NameRegister(Model):
    """`deployments/names.yaml`: reserved names, and names that were assigned to a holder."""

    names: dict[Pattern, Holder] = Field(description="name, or every name below one (`base/*`) → its holder")

    @model_validator(mode="after")
    def _settles_something(self) -> NameRegister:
        for name, holder in self.names.items():
            if holder == Holder():
                raise ValueError(f"{name} is assigned to nobody; write kind, owner, repository, path or classification")
            if self._is_reserved(name) and not (holder.sources or holder.repository):
                raise ValueError(f"{name} is reserved, and no source is listed that may use it; write sources")
        return self

    def of(self, name: Name) -> Holder | None:
        """Return the registered holder of a name: its own entry, or else that of the nearest pattern.

        Its classification is the highest of all these entries. A reserved name without an entry is held by no source.
        """
        entries = self._entries(name)
        if not entries:
            return Holder(sources=()) if name.startswith(RESERVED) else None
        return entries[0].model_copy(update={"classification": self.minimum_classification(name)})

    def minimum_classification(self, name: Name) -> Classification | None:
        """Return the lowest classification that may be declared under a name; None if each may be."""
        stated = (each.classification for each in self._entries(name) if each.classification)
        return max(stated, key=attrgetter("rank"), default=None)

    @property
    def classifications(self) -> dict[Pattern, Classification]:
        """What the entries say of classifications: name → the lowest that may be declared."""
        return {name: each.classification for name, each in sorted(self.names.items()) if each.classification}

    def _entries(self, name: Name) -> list[Holder]:
        """Return the entries that cover a name, the nearest first."""
        return [self.names[each] for each in (name, *list_patterns(name)) if each in self.names]

    def _is_reserved(self, name: str) -> bool:
        return name.startswith(RESERVED) or any(map(self._reserves, list_patterns(name)))

    def _reserves(self, pattern: str) -> bool:
        """Return whether the entry of a pattern reserves names; one that has only a classification does not."""
        entry = self.names.get(pattern)
        return entry is not None and entry.model_copy(update={"classification": None}) != Holder()


def list_patterns(name: str) -> list[str]:
    """Return the patterns that cover a name, the nearest first; a pattern covers itself."""
    above = name.split("/")[:-1]
    return ["/".join(above[:n]) + "/*" for n in range(len(above), 0, -1)]


def parse_register(content: bytes, path: Path) -> NameRegister:
    """Return the register from the content of its file; raise `DeclarationInvalid`."""
    return parse_document(decode_document(content, str(path)), NameRegister, str(path))


def read_register_content(path: Path) -> bytes:
    """Read the register's file; raise `SettingInvalid` without one, because then no name would be reserved."""
    if not path.exists():
        raise SettingInvalid(f"{path} does not exist.\nBring it back from the project; `names: {{}}` reserves nothing.")
    return read_content(path)


def read_register(path: Path) -> NameRegister:
    """Read the register of a project; raise as `read_register_content` and `parse_register`."""
    return parse_register(read_register_content(path), path)
