"""A browser that is logged in to Prefect's UI, with the actions of a person.

`make test` has started the laptop and installed chromium. The fixtures start neither; a missing part fails the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from cscm_laptop.home import Home
from cscm_laptop.laptop import LaptopState, load_state
from cscm_laptop.prefect_server import ensure_auth_string
from tests.support.ui import Ui, eyes, form, logged_in, started

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", metavar="DIRECTORY", help="write the README's two screenshots there")


@pytest.fixture(scope="session")
def laptop() -> LaptopState:
    """The running laptop."""
    state = load_state(Home.find(start=ROOT))
    try:
        httpx.get(f"{state.prefect_api_url}/health").raise_for_status()
    except httpx.HTTPError as error:
        pytest.fail(f"Prefect does not answer at {state.prefect_api_url}: {error}\nStart the laptop: `cscm up`.")
    return state


@pytest.fixture(scope="session")
def auth() -> str:
    """The authentication string for Prefect's login."""
    return ensure_auth_string(Home.find(start=ROOT))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser that all tests here share."""
    with started() as browser:
        yield browser


@pytest.fixture(scope="session")
def ui(chromium: Browser, laptop: LaptopState, auth: str, request: pytest.FixtureRequest) -> Iterator[Ui]:
    wanted = request.config.getoption("--screenshots", default=None)
    pictures = Path(wanted) if wanted else None
    with logged_in(chromium, laptop, auth) as window, eyes(window, laptop, auth, pictures) as session:
        yield session


@pytest.fixture(scope="session")
def start(ui: Ui) -> Callable[[Path], str]:
    """A function that starts the chain of a directory with the UI's form and returns the run's id."""

    def fill(path: Path) -> str:
        form(ui)
        ui.page.get_by_label("path").fill(str(path))
        ui.page.get_by_role("button", name="Submit").click()
        link = ui.page.get_by_role("link", name="View run").get_attribute("href")
        assert link, "the form does not say where the run is"
        return link.rpartition("/")[2]

    return fill


@pytest.fixture(scope="session")
def hello(start: Callable[[Path], str]) -> str:
    """The run of a chain of hello, started in the UI."""
    return start(EXAMPLES / "hello")


@pytest.fixture(scope="session")
def careless(ui: Ui, start: Callable[[Path], str]) -> str:
    """A refused chain: the latest existing one, else one that is started in the UI."""
    wanted = {"flow_runs": {"name": {"like_": "chain careless"}, "state": {"name": {"any_": ["Refused"]}}}}
    found = ui.api("flow_runs/filter", {**wanted, "sort": "START_TIME_DESC", "limit": 1})
    return str(found[0]["id"]) if found else start(EXAMPLES / "careless")
