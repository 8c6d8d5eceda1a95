"""Workloads of clusters. Deployments to clusters are read again, because their place is stored in other fields."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("seen") as table:
        for name, length in (("cluster", 256), ("namespace", 256), ("workload", 512)):
            table.add_column(sa.Column(name, sa.String(length=length), nullable=False, server_default=""))
        table.add_column(sa.Column("pods", sa.Text(), nullable=False, server_default="[]"))
        table.drop_constraint("pk_seen", type_="primary")
        table.create_primary_key("pk_seen", ["host", "container", "digest"])
    op.execute("UPDATE images SET mark = '' WHERE id IN (SELECT image FROM deployments WHERE document LIKE '%.svc:%')")
