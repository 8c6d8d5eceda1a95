"""`python -m supply_chain.adapters.database.migrations.make MESSAGE`: the step to the tables as they are now.

There is no way back: an older version makes its inventory again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine

from supply_chain.adapters.database.schema import make_configuration, migrate


def main() -> None:
    """Compare a database of the last step with the tables, and write the difference as the next step."""
    with tempfile.TemporaryDirectory() as directory:
        engine = create_engine(f"sqlite:///{Path(directory) / 'inventory.db'}")
        migrate(engine)
        with engine.begin() as connection:
            number = len(list((Path(__file__).parent / "versions").glob("[0-9]*.py"))) + 1
            command.revision(
                make_configuration(connection), message=sys.argv[1], autogenerate=True, rev_id=f"{number:04}"
            )


if __name__ == "__main__":
    main()
