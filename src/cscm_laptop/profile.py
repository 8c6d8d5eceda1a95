"""The settings of the laptop's supply chain: `deployments/profiles/laptop.yaml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from cscm_laptop.cluster.settings import ClusterSettings
from cscm_laptop.ports import HOST
from supply_chain.development.bases import REGISTRIES
from supply_chain.development.content import (
    DEBIAN_ARCHIVES,
    NPM_REGISTRIES,
    PYTHON_INDEXES,
    DebianArchiveLine,
    NpmRegistryUrl,
    PackageIndexUrl,
)
from supply_chain.errors import SettingInvalid
from supply_chain.model.documents import WrittenTime, read_document
from supply_chain.model.image import DIGEST, Model

FILE = Path("deployments/profiles/laptop.yaml")
VARIABLE = "CSCM_PROFILE"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

Port = Annotated[int, Field(ge=1024, le=65535)]
BaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(?:[._-][a-z0-9]+)*$", max_length=64)]
Upstream = Annotated[str, StringConstraints(pattern=rf"^[a-z0-9][a-z0-9._:/-]*@{DIGEST}$", max_length=512)]
"""An image of a third party, with its registry and its digest: `docker.io/library/python@sha256:…`."""


Registry = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(?:[.-][a-z0-9]+)*(?::\d{1,5})?$", max_length=255)]


class Ports(Model):
    """Ports where the parts listen, all on 127.0.0.1."""

    emulator: Port = Field(default=4566, description="the AWS emulator and its registry")
    prefect: Port = Field(default=4200, description="Prefect's server and UI")

    @model_validator(mode="after")
    def _apart(self) -> Ports:
        if self.emulator == self.prefect:
            raise ValueError("the emulator and Prefect need two different ports")
        return self


class Profile(Model):
    """Settings of the laptop; every one has a default."""

    ports: Ports = Ports()
    cluster: ClusterSettings = ClusterSettings()
    region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(?:-[a-z]+)+-\d$")] = Field(
        default="us-east-1", description="the AWS region of the emulator"
    )
    build_network: Literal["default", "none"] = Field(
        default="default", description="the network of build steps: the engine's bridge, or none"
    )
    ca_bundle: Path | None = Field(default=CA_BUNDLE, description="certificates that build steps trust")
    bases: dict[BaseName, Upstream | None] = Field(
        default={"python": None, "python-build": None},
        description="base images by name; null means curated/base/NAME",
    )
    registries: tuple[Registry, ...] = Field(
        default=REGISTRIES,
        description="the registries from which applications may declare images",
    )
    python_indexes: tuple[PackageIndexUrl, ...] = Field(
        default=PYTHON_INDEXES,
        description="the package indexes with which Python packages in images are compared; none: their own records "
        "count",
    )
    debian_archives: tuple[DebianArchiveLine, ...] = Field(
        default=DEBIAN_ARCHIVES,
        description="the archives with which Debian packages in images are compared, as in sources.list without `deb`; "
        "none: their own records count",
    )
    npm_registries: tuple[NpmRegistryUrl, ...] = Field(
        default=NPM_REGISTRIES,
        description="the registries with which npm packages in images are compared; none: their own metadata count",
    )
    database: Literal["auto", "starter"] = Field(
        default="auto",
        description="auto: grype's own; the starter database if it cannot be reached",
    )

    notify: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$", max_length=200)] = Field(
        default="supply-chain-log/operators",
        description="the block that notifies owners and operators, as type/name",
    )

    lifecycle: Literal["plan", "apply"] = Field(
        default="plan", description="whether lifecycle/nightly only plans or also applies the plan"
    )

    policies_signed_since: WrittenTime | None = Field(
        default=None,
        description="signatures of policies, environments and names before this time do not count, nor does what ships "
        "with the project unsigned; null: any signature counts, and what ships needs none",
    )

    inventory: str | None = Field(
        default=None,
        description="the inventory's database, such as postgresql+psycopg://…; null: a file",
    )

    @field_validator("bases")
    @classmethod
    def _own_proxy(cls, value: dict[str, str | None]) -> dict[str, str | None]:
        if value.get("proxy"):
            raise ValueError("the proxy holds every address: it is always our own, curated/base/proxy")
        return value

    @property
    def registry(self) -> str:
        """The registry's host and port, as they appear in the name of an image."""
        return f"{HOST}:{self.ports.emulator}"

    def certificates(self) -> Path | None:
        """Return the CA bundle to use, or None.

        If the default file does not exist, there is no bundle; if a chosen file does not exist, raises
        `SettingInvalid`.
        """
        if self.ca_bundle is None or self.ca_bundle.is_file():
            return self.ca_bundle
        if self.ca_bundle == CA_BUNDLE:
            return None
        raise SettingInvalid(
            f"The profile's ca_bundle {self.ca_bundle} is not a file.\n"
            "Name a file of PEM certificates, or null for none."
        )


def load_profile(root: Path, environ: Mapping[str, str] = os.environ) -> Profile:
    """Read the profile that is chosen for the project at `root`.

    Raises `DeclarationInvalid` with the file, line and column of an error.
    """
    return read_document(locate_profile(root, environ), Profile)


def locate_profile(root: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the profile's path: the one that CSCM_PROFILE names, else that of the project at `root`."""
    chosen = environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else root / FILE
