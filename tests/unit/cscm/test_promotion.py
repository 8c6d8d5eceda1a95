"""`cscm break-glass`: its end is a time in UTC."""

import pytest
from click.testing import CliRunner

from cscm.main import main

IMAGE = "curated/hello@sha256:" + "a" * 64


@pytest.mark.parametrize(("given", "says"), [
    ("tomorrow", "is not a time: write 2026-12-01T12:00Z"),
    ("2026-12-01T12:00", "is not in UTC: write 2026-12-01T12:00Z"),
    ("2026-12-01T12:00+01:00", "is not in UTC: write 2026-12-01T12:00Z"),
])  # fmt: skip
def test_break_glass_command_refuses_a_time_that_is_not_in_utc(given, says):
    """An hour more or less is a third of an outage."""
    words = [IMAGE, "--environment", "e", "--by", "ann", "--reason", "x", "--key", "awskms:///k", "--expires", given]
    done = CliRunner().invoke(main, ["break-glass", *words])

    assert done.exit_code == 2 and says in " ".join(done.output.split())
