"""The how-to pages about exceptions and people: their files and commands are run as written, in the project itself."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime

import pytest

from cscm_laptop.home import Home
from supply_chain.adapters.tools import Toolbox
from supply_chain.policy.signed_documents import locate_signature
from supply_chain.policy.vex import DIRECTORY as VEX
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from tests.support.command import ROOT, cscm
from tests.support.pages import find_mistakes, move_dates, read_files, read_steps, run_steps, use_keys
from tests.support.signed_people import make_key, write_old_django
from tests.support.signed_project import owner_key, sign_project, withdraw_signature

pytestmark = pytest.mark.real

PAGES = {
    "waivers": date(2026, 11, 28),
    "vex": date(2026, 11, 28),
    "approvals": date(2026, 11, 28),
    "freeze": date(2026, 12, 20),
}
"""Each page, with the day of its reader: its dates are moved as far as today is from that day."""
OWNER = ".cscm/state/people/owner.key"
SIGNERS = ("ann", "ben", "psirt")
"""The people and issuers of all pages."""


@pytest.fixture(scope="module")
def digest(bases: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the image of all pages, which curation refused for a critical finding."""
    path = write_old_django(tmp_path_factory.mktemp("how-to") / "shop")
    refused = cscm("chain", str(path), "--environment", "staging", "--json")
    assert refused.reasons() == {"scan.critical"}, refused.stderr
    assert cscm("inventory", "shop").status == 0
    return str(refused.result["image"]["digest"])


@pytest.fixture
def keys(toolbox: Toolbox, home: Home) -> Iterator[Mapping[str, str]]:
    """Each signer's public key; the private one is in the project, which has afterwards only what ships."""
    written = [file for page in PAGES for file in read_files(ROOT / f"docs/how-to/{page}.md")]
    own = [ROOT / f"{name}{suffix}" for name in SIGNERS for suffix in (".key", ".pub")]
    files = {*written, *map(locate_signature, written), *own}
    directories = [ROOT / WAIVERS, ROOT / VEX]
    assert [each for each in (*files, *directories) if each.exists()] == [], "a test would remove them"
    withdraw_signature()
    try:
        yield {name: make_key(toolbox, ROOT / name) for name in SIGNERS}
    finally:
        for file in files:
            file.unlink(missing_ok=True)
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
        sign_project(home)


@pytest.mark.parametrize("page", PAGES)
def test_how_to_commands_print_what_the_page_says(page: str, digest: str, keys: Mapping[str, str], home: Home) -> None:
    """A reader of the page gets the same."""
    days = (datetime.now(UTC).date() - PAGES[page]).days

    def adapt(text: str) -> str:
        return use_keys(move_dates(text, days), keys)

    steps = read_steps(ROOT / f"docs/how-to/{page}.md", adapt=adapt)
    started = time.monotonic()
    printed = run_steps(steps, ROOT, {OWNER: owner_key(home)}, DIGEST=digest, COSIGN_PASSWORD="")
    seconds = time.monotonic() - started

    assert [*find_mistakes(steps, printed)] == []
    assert sum(len(step.printed) for step in steps) > 2
    print(f"{page}: {seconds:.0f} s")
