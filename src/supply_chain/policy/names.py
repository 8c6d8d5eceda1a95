"""Names: whose an application's name is, by what the platform's owner wrote down and by who came first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from supply_chain.app import Base, Name, Service, Word
from supply_chain.documents import read_document
from supply_chain.errors import SettingInvalid
from supply_chain.image import PATH, Frozen, Source

Pattern = Annotated[str, StringConstraints(pattern=rf"^{PATH}(?:/\*)?$", min_length=2, max_length=128)]
"""A name, or every name below one: `base/*`."""


class Holder(Frozen):
    """Who holds a name. What is None is not settled: whoever is admitted first settles it."""

    kind: Literal["service", "base"] | None = Field(default=None, description="what its declaration says")
    owner: Word | None = Field(default=None, description="what its declaration says")
    repository: str | None = Field(
        default=None, description="the git repository's remote, or the directory's name where there is none"
    )
    path: str | None = Field(default=None, description="the application's directory below the repository's root")

    def __str__(self) -> str:
        where = f" in {self.repository}" if self.repository else ""
        below = f", {self.path}" if self.path else ""
        return f"the {self.kind or 'application'} of {self.owner or 'anybody'}{where}{below}"

    @classmethod
    def of(cls, manifest: Service | Base, source: Source) -> Holder:
        """Who builds this from there."""
        return cls(kind=manifest.kind, owner=manifest.owner, repository=source.repository, path=source.path)

    def holds_for(self, other: Holder) -> bool:
        """Whether all that is settled here is so there."""
        return all(getattr(other, key) == value for key, value in self if value is not None)

    def over(self, earlier: Holder | None) -> Holder:
        """This, and where it settles nothing, what was so before."""
        return Holder(**{**dict(earlier or Holder()), **{k: v for k, v in self if v is not None}})


class NameRegister(Frozen):
    """`deployments/names.yaml`: names that are reserved, and names that were handed over."""

    names: dict[Pattern, Holder] = Field(description="name, or every name below one (`base/*`) → whose it is")

    @model_validator(mode="after")
    def _settles_something(self) -> NameRegister:
        for name, holder in self.names.items():
            if holder == Holder():
                raise ValueError(f"{name} is given to nobody; write kind, owner, repository or path")
        return self

    def of(self, name: Name) -> Holder | None:
        """What is written down for a name: under itself, else under the nearest pattern."""
        above = name.split("/")[:-1]
        patterns = ["/".join(above[:n]) + "/*" for n in range(len(above), 0, -1)]
        return next((self.names[each] for each in (name, *patterns) if each in self.names), None)


def read_register(path: Path) -> NameRegister:
    """The register of a project. There has to be one: without it nobody's name would be reserved."""
    if not path.exists():
        raise SettingInvalid(f"{path} does not exist.\nBring it back from the project; `names: {{}}` reserves nothing.")
    return read_document(path, NameRegister)
