"""Defines the inventory's tables. An image is one document; values that are searched by name have tables of their own.

Packages are stored once for each SBOM, and a finding once for all images that have it.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
NAME = 400
"""Maximum characters of a name that are stored: as many as PostgreSQL's indexes accept, whatever the characters are."""
metadata = MetaData(naming_convention=NAMES)


def _of_image() -> Column[int]:
    return Column("image", ForeignKey("images.id", ondelete="CASCADE"), nullable=False, index=True)


images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repository", String(256), nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("application", String(256), nullable=False, index=True),
    Column("pushed", String(32), nullable=False),
    Column("sbom", String(71), index=True),
    Column("scanned", Boolean, nullable=False, server_default=false()),
    Column("archived", Boolean, nullable=False, server_default=false()),
    Column("starter", Boolean, nullable=False, server_default=false()),
    Column("missing", Boolean, nullable=False, server_default=false()),
    Column("unreadable", Boolean, nullable=False, server_default=false()),
    Column("mark", String(64), nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("repository", "digest"),
)
"""`document` is a `FleetImage` without findings and deployments. `pushed` is in UTC, in RFC 3339 format, so that it
sorts.

`missing`: the registry no longer has the image; what is still signed about it is stored.
"""

bases = Table(
    "bases", metadata, Column("id", Integer, primary_key=True), _of_image(), Column("digest", String(71), index=True)
)
copies = Table(
    "copies", metadata, Column("id", Integer, primary_key=True), _of_image(), Column("digest", String(71), index=True)
)
deployments = Table(
    "deployments",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_image(),
    Column("environment", String(256), nullable=False),
    Column("since", String(32), nullable=False),
    Column("reverse_proxy", String(64), nullable=False, index=True),
    Column("document", Text, nullable=False),
)
seen = Table(
    "seen",
    metadata,
    Column("host", String(256), primary_key=True),
    Column("container", String(64), primary_key=True),
    Column("name", String(256), nullable=False),
    Column("digest", String(71), primary_key=True, index=True),
    Column("running", Boolean, nullable=False),
    Column("healthy", Boolean),
    Column("at", String(32), nullable=False),
    Column("cluster", String(256), nullable=False, server_default=""),
    Column("namespace", String(256), nullable=False, server_default=""),
    Column("workload", String(512), nullable=False, server_default=""),
    Column("pods", Text, nullable=False, server_default="[]"),
)
"""A container of a host, or the pods of a workload that use an image; `pods` is a JSON list of their names."""
gate_facts = Table(
    "gate_facts",
    metadata,
    Column("image", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("gate", String(16), primary_key=True),
    Column("environment", String(256), primary_key=True),
    Column("version", String(71), nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""`environment` is empty except at the deploy gate. `content` is the facts as compressed JSON."""
offered = Table(
    "offered",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repository", String(256), nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("application", String(256), nullable=False, index=True),
    Column("mark", String(64), nullable=False),
    Column("version", String(71), nullable=False, server_default=""),
    Column("content", LargeBinary),
    UniqueConstraint("repository", "digest"),
)
"""The images that the intake gate judged, with their facts as in `gate_facts`; `version` is empty without facts."""
findings = Table(
    "findings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("document", Text, nullable=False),
)
"""`key` is the SHA-256 of the document."""
finding_names = Table(
    "finding_names",
    metadata,
    Column("finding", ForeignKey("findings.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(NAME), primary_key=True),
    Index("ix_finding_names_name", "name"),
)
"""A finding's own name and its aliases, in upper case."""
found_in = Table(
    "found_in",
    metadata,
    Column("image", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("finding", ForeignKey("findings.id"), nullable=False, index=True),
)
packages = Table(
    "packages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("name", String(NAME), nullable=False),
    Column("version", String(NAME), nullable=False),
    Column("source", String(NAME), nullable=False),
    Column("source_version", String(NAME), nullable=False),
)
"""`key` is the SHA-256 of the package's complete data, `source` the package that it was built from. Values that are
longer than `NAME` are cut off.
"""
package_names = Table(
    "package_names",
    metadata,
    Column("package", ForeignKey("packages.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", String(NAME), nullable=False, index=True),
    Column("version", String(NAME), nullable=False),
)
"""The names by which packages are found: `fleet.packages.list_package_names`, sorted."""
listed_in = Table(
    "listed_in",
    metadata,
    Column("sbom", String(71), primary_key=True),
    Column("package", ForeignKey("packages.id"), primary_key=True, index=True),
)
facts = Table("facts", metadata, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))
