"""A browser that is logged in to Prefect's UI, with the actions of a person."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, ViewportSize, sync_playwright

from cscm_laptop.laptop import LaptopState
from tests.support import waiting

TALL: ViewportSize = {"width": 1440, "height": 2400}
"""Lists render only what is in view; this height fits whole logs."""
PICTURE: ViewportSize = {"width": 1440, "height": 1400}
PATIENCE = 60_000
"""Milliseconds to wait for an element."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


@contextmanager
def started() -> Iterator[Browser]:
    """Start Debian's chromium without a window; a process can run one at a time."""
    path = shutil.which("chromium")
    if path is None:
        pytest.fail(
            "There is no chromium.\nInstall the package chromium; on Debian as root `scripts/test-programs` does."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Ui:
    """A page of Prefect's UI, and Prefect's API to compare it with."""

    page: Page
    client: httpx.Client
    address: str
    pictures: Path | None

    def open(self, path: str) -> None:
        """Open a page by its path below the UI's root."""
        self.page.goto(f"{self.address}/v2/{path}")

    def text(self) -> str:
        """Return the text of the page, with white space normalised."""
        return " ".join(self.page.locator("main").inner_text().split())

    def shows(self, *facts: str, seconds: float = 30) -> str:
        """Wait until the page shows all facts; return its text."""
        deadline = time.monotonic() + seconds
        text, missing = "", list(facts)
        while missing and time.monotonic() < deadline:
            self.page.wait_for_timeout(200)
            text = self.text()
            missing = [fact for fact in facts if fact not in text]
        assert not missing, f"the page does not show {missing}:\n{text[:5000]}"
        return text

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call Prefect's API, and repeat the call while the database is locked, as Prefect's own client does."""
        for _ in range(10):
            answer = self.client.get(path) if body is None else self.client.post(path, json=body)
            if answer.status_code != 503:
                break
            time.sleep(0.5)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def artifact(self, run: str, key: str) -> str:
        """Return the path of a run's artifact in the UI."""
        found = self.api("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": [key]}}})
        assert found, f"the run {run} has no {key}"
        return f"artifacts/artifact/{found[0]['id']}"

    def ended(self, run: str) -> dict[str, Any]:
        """Wait until a run has ended and return it."""
        deadline = time.monotonic() + waiting.PATIENCE
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.api(f"flow_runs/{run}")
            if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return found
            self.page.wait_for_timeout(500)
        raise AssertionError(f"the run {run} is {found['state_name']} still")

    def picture(self, name: str) -> None:
        """Save a screenshot for the README if --screenshots is set."""
        if self.pictures:
            self.page.set_viewport_size(PICTURE)
            self.page.wait_for_timeout(2000)  # the timeline is animated
            self.page.screenshot(path=self.pictures / f"{name}.png")
            self.page.set_viewport_size(TALL)


@contextmanager
def logged_in(chromium: Browser, laptop: LaptopState, auth: str) -> Iterator[BrowserContext]:
    """Open a browser context that is logged in.

    The test process makes its requests: chromium aborts all requests whenever the engine adds or removes a
    network, which a chain does often. Only the UI is reachable.
    """
    address = laptop.prefect_api_url.removesuffix("/api")

    assets: dict[str, dict[str, Any]] = {}

    def through(route: Route) -> None:
        url = route.request.url
        if not url.startswith(f"{address}/"):
            route.abort()
        elif "/assets/" not in url:
            route.fulfill(response=route.fetch(max_retries=3))
        else:
            if url not in assets:
                got = route.fetch(max_retries=3)
                assets[url] = {"status": got.status, "headers": got.headers, "body": got.body()}
            route.fulfill(**assets[url])

    context = chromium.new_context(viewport=TALL)
    context.set_default_timeout(PATIENCE)
    context.route("**/*", through)
    page = context.new_page()
    page.goto(f"{address}/")
    page.get_by_placeholder("admin:pass").fill(auth)
    page.get_by_role("button", name="Login").click()
    page.wait_for_url("**/dashboard**")
    page.close()
    yield context
    context.unroute_all(behavior="ignoreErrors")
    context.close()


@contextmanager
def eyes(window: BrowserContext, laptop: LaptopState, auth: str, pictures: Path | None = None) -> Iterator[Ui]:
    """Open a page in a context, with an API client."""
    user, _, password = auth.partition(":")
    with httpx.Client(base_url=f"{laptop.prefect_api_url}/", auth=(user, password), timeout=30) as client:
        yield Ui(window.new_page(), client, laptop.prefect_api_url.removesuffix("/api"), pictures)


def form(ui: Ui) -> None:
    """Open the form of the chain from the list of deployments."""
    ui.open("deployments")
    ui.page.get_by_placeholder("Search deployments").fill("chain")  # the list has more than one page
    row = ui.page.get_by_role("row").filter(has_text="on-demand").filter(has_text="chain")
    row.get_by_role("link", name="on-demand").click()
    ui.page.get_by_role("button", name="Run", exact=True).click()
    ui.page.get_by_role("menuitem", name="Custom run").click()
    ui.page.get_by_label("path").wait_for()
