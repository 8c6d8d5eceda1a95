"""Models of the pin file: which programs, in which versions, and from where."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from supply_chain.model.documents import read_document
from supply_chain.model.image import Model

Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+){1,3}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_{}.-]+$")]


class ReleaseFile(Model):
    """The file of a release for one platform: the program itself, or a tar.gz that contains it as `member`."""

    name: FileName
    member: FileName | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


class Pin(Model):
    """The settings that every kind of tool has."""

    minimum: Version
    below: Version | None = None
    version_args: tuple[str, ...]
    version_pattern: str = Field(description="finds the version, its first group, in what version_args print")
    package: str
    optional: bool = Field(default=False, description="true: needed only where something uses it")

    @field_validator("version_pattern")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError("needs one group, around the version")
        return value

    @property
    def accepted(self) -> str:
        """The accepted versions, as text for people."""
        return f">={self.minimum}" + (f",<{self.below}" if self.below else "")

    def fits(self, version: str) -> bool:
        """Return whether a version is one that the chain was tested with."""
        number = _number(version)
        return _number(self.minimum) <= number and (self.below is None or number < _number(self.below))


class BuiltPin(Pin):
    """A program written in Go that can be built on this machine."""

    version: Version
    stamp: str = Field(description="the linker's assignment that tells the program its version")
    toolchain: Annotated[str, StringConstraints(pattern=r"^go1(\.\d+)+$")]

    def fill_version(self, text: str) -> str:
        """Return `text` with the version in place of `{version}`."""
        return text.replace("{version}", self.version)


class GoPin(BuiltPin):
    """A program written in Go: a release of its project, or built from its module."""

    kind: Literal["go"]
    repository: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    tag: Annotated[str, StringConstraints(pattern=r"^[\w{}./-]+$")] = "v{version}"
    checksums: FileName = "checksums.txt"
    files: dict[Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9]+$")], ReleaseFile] = Field(
        default_factory=dict
    )
    """The release; empty if it has none with a file of checksums."""

    @property
    def program(self) -> str:
        """The name that `go install` gives the program: of its package without the module's major version."""
        return re.sub(r"/v\d+$", "", self.package).rpartition("/")[2]


class SourcePin(BuiltPin):
    """A Go program of this project, built from its sources; `package` is their directory in a Python package."""

    kind: Literal["source"]
    package: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*$")]


class DistributionPin(Pin):
    """A package of the Linux distribution."""

    kind: Literal["distribution"]


class WheelPin(Pin):
    """A program that a Python dependency of the project installs in the interpreter's scripts directory."""

    kind: Literal["wheel"]


class Pins(Model):
    """The pin file, `deployments/tools.yaml`."""

    releases: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+[^/\s]$")] = "https://github.com"
    tools: dict[Name, Annotated[GoPin | SourcePin | DistributionPin | WheelPin, Field(discriminator="kind")]]

    @classmethod
    def load(cls, path: Path) -> Pins:
        """Read the pin file; raise `DeclarationInvalid` with file, line and column of an error."""
        return read_document(path, cls)

    def needed(self, used: Collection[str]) -> Pins:
        """Return the pins without the optional tools that are not in `used`."""
        tools = {name: pin for name, pin in self.tools.items() if not pin.optional or name in used}
        return self.model_copy(update={"tools": tools})


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
