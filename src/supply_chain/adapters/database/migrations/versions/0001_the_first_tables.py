"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "findings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
        sa.UniqueConstraint("key", name=op.f("uq_findings_key")),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository", sa.String(length=256), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("application", sa.String(length=256), nullable=False),
        sa.Column("pushed", sa.String(length=32), nullable=False),
        sa.Column("sbom", sa.String(length=71), nullable=True),
        sa.Column("mark", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_images")),
        sa.UniqueConstraint("repository", "digest", name=op.f("uq_images_repository_digest")),
    )
    op.create_index(op.f("ix_images_application"), "images", ["application"], unique=False)
    op.create_index(op.f("ix_images_digest"), "images", ["digest"], unique=False)
    op.create_index(op.f("ix_images_sbom"), "images", ["sbom"], unique=False)
    op.create_table(
        "packages",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.Column("version", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packages")),
        sa.UniqueConstraint("key", name=op.f("uq_packages_key")),
    )
    op.create_index(op.f("ix_packages_name"), "packages", ["name"], unique=False)
    op.create_table(
        "seen",
        sa.Column("host", sa.String(length=256), nullable=False),
        sa.Column("container", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("running", sa.Boolean(), nullable=False),
        sa.Column("healthy", sa.Boolean(), nullable=True),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("host", "container", name=op.f("pk_seen")),
    )
    op.create_index(op.f("ix_seen_digest"), "seen", ["digest"], unique=False)
    op.create_table(
        "bases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=True),
        sa.ForeignKeyConstraint(["image"], ["images.id"], name=op.f("fk_bases_image"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bases")),
    )
    op.create_index(op.f("ix_bases_digest"), "bases", ["digest"], unique=False)
    op.create_index(op.f("ix_bases_image"), "bases", ["image"], unique=False)
    op.create_table(
        "copies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=True),
        sa.ForeignKeyConstraint(["image"], ["images.id"], name=op.f("fk_copies_image"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_copies")),
    )
    op.create_index(op.f("ix_copies_digest"), "copies", ["digest"], unique=False)
    op.create_index(op.f("ix_copies_image"), "copies", ["image"], unique=False)
    op.create_table(
        "deployments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("image", sa.Integer(), nullable=False),
        sa.Column("environment", sa.String(length=256), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("reverse_proxy", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image"], ["images.id"], name=op.f("fk_deployments_image"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployments")),
    )
    op.create_index(op.f("ix_deployments_reverse_proxy"), "deployments", ["reverse_proxy"], unique=False)
    op.create_index(op.f("ix_deployments_image"), "deployments", ["image"], unique=False)
    op.create_table(
        "finding_names",
        sa.Column("finding", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.ForeignKeyConstraint(
            ["finding"], ["findings.id"], name=op.f("fk_finding_names_finding"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("finding", "name", name=op.f("pk_finding_names")),
    )
    op.create_index("ix_finding_names_name", "finding_names", ["name"], unique=False)
    op.create_table(
        "found_in",
        sa.Column("image", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("finding", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["finding"], ["findings.id"], name=op.f("fk_found_in_finding")),
        sa.ForeignKeyConstraint(["image"], ["images.id"], name=op.f("fk_found_in_image"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image", "position", name=op.f("pk_found_in")),
    )
    op.create_index(op.f("ix_found_in_finding"), "found_in", ["finding"], unique=False)
    op.create_table(
        "listed_in",
        sa.Column("sbom", sa.String(length=71), nullable=False),
        sa.Column("package", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["package"], ["packages.id"], name=op.f("fk_listed_in_package")),
        sa.PrimaryKeyConstraint("sbom", "package", name=op.f("pk_listed_in")),
    )
    op.create_index(op.f("ix_listed_in_package"), "listed_in", ["package"], unique=False)
