"""What an operator sees in Prefect's UI: forms, runs, artifacts, refusals, blocks and events."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker
import httpx
import pytest
from playwright.sync_api import Request

from cscm_laptop.laptop import LaptopState
from tests.support.command import ROOT
from tests.support.ui import Ui, form

pytestmark = pytest.mark.real

STEPS = {
    "build": ("build", "test", "offer"),
    "curate": ("intake gate", "store", "encrypt", "scan", "release gate", "sign"),
    "deploy": ("deploy gate", "deploy", "monitor"),
}


def test_chain_form_describes_its_parameters(ui: Ui, hello: str, careless: str) -> None:
    """The fixtures start two chains, which run while the next tests look at other pages."""
    form(ui)

    ui.shows(
        "path The application's directory, with its supply-chain.yaml",
        "revision (Optional) The git commit to build. If empty, the directory's current files are built.",
        "environment (Optional) The environment to deploy to",
    )


@pytest.mark.parametrize("kind", ["tier", "container-host", "workbench"])
def test_block_form_has_title_and_description_for_each_field(ui: Ui, kind: str) -> None:
    """An operator fills in the form without reading code."""
    fields: dict[str, Any] = _schema(ui, f"supply-chain-{kind}")["properties"]
    ui.open(f"blocks/catalog/supply-chain-{kind}/create")

    assert all(len(field["description"]) > 20 or kind == "tier" for field in fields.values())
    ui.shows(*(fact for field in fields.values() for fact in (field["title"], " ".join(field["description"].split()))))


def _schema(ui: Ui, slug: str) -> dict[str, Any]:
    kind = ui.api(f"block_types/slug/{slug}")
    found = ui.api("block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}})
    schema: dict[str, Any] = max(found, key=lambda each: each["created"])["fields"]
    return schema


def test_tier_block_masks_its_secret(ui: Ui, laptop: LaptopState) -> None:
    """The access key id is visible, and the trusted keys are public keys."""
    identity = laptop.identities["curation"]  # type: ignore[index]  # the names are strings
    ui.open("blocks")
    row = ui.page.get_by_role("row").filter(has_text="Supply Chain Tier").filter(has_text="curation")
    row.get_by_role("link", name="curation").click()
    page = ui.shows(identity.access_key_id, "********", identity.role_arn, "Trusted public keys")

    assert identity.secret_access_key not in ui.page.content()
    assert "PRIVATE" not in page


def test_edited_tier_block_keeps_its_secret(ui: Ui) -> None:
    """Saving the form must not overwrite the secret with its mask."""
    kind = ui.api("block_types/slug/supply-chain-tier")["id"]
    wanted = {"block_documents": {"block_type_id": {"any_": [kind]}}, "include_secrets": True}
    before = next(each for each in ui.api("block_documents/filter", wanted) if each["name"] == "curation")
    copied = {key: before[key] for key in ("data", "block_schema_id", "block_type_id")}
    made = ui.api("block_documents/", {**copied, "name": "edited"})
    try:
        ui.open(f"blocks/block/{made['id']}/edit")
        ui.page.get_by_label("Role").fill("arn:aws:iam::000000000000:role/edited")
        ui.page.get_by_role("button", name="Save").click()
        ui.page.wait_for_url(f"**/blocks/block/{made['id']}")
        after = ui.api(f"block_documents/{made['id']}?include_secrets=true")
    finally:
        ui.client.delete(f"block_documents/{made['id']}")

    assert after["data"] == {**before["data"], "role_arn": "arn:aws:iam::000000000000:role/edited"}


def test_ui_sends_no_request_to_other_hosts(ui: Ui) -> None:
    """The content security policy blocks all other requests in the browser."""
    left: list[str] = []

    def failed(request: Request) -> None:
        if request.failure != "csp" and not request.url.startswith(f"{ui.address}/"):
            left.append(request.url)

    ui.page.on("requestfailed", failed)
    for path in ("dashboard", "blocks", "blocks/catalog", "settings"):
        ui.open(path)
        ui.page.wait_for_timeout(1000)
    ui.page.remove_listener("requestfailed", failed)

    assert left == []


def test_chain_run_shows_each_step_with_its_duration(ui: Ui, hello: str) -> None:
    """The run's name has flow and application; its log and its subflows list the steps."""
    run = ui.ended(hello)
    ui.open(f"runs/flow-run/{hello}")
    log = ui.shows("Completed", "Runs in staging at http://")

    assert run["name"] == "chain hello" and run["name"] in log
    for step in (step for steps in STEPS.values() for step in steps):
        assert re.search(rf"\b{step} \(\d+\.\d s\)", log), step
    ui.page.get_by_role("combobox").filter(has_text="Oldest to newest").click()
    ui.page.get_by_role("option", name="Newest to oldest").click()
    ui.picture("run")
    ui.tab("Subflow Runs")
    tiers = ui.shows(*(f"{tier} / {tier} hello" for tier in STEPS))
    assert len(re.findall(r"Completed \S+ \S+ [AP]M \d Parameters? \d+s \d Task runs", tiers)) == 3, tiers


@pytest.mark.parametrize("tier", STEPS)
def test_tier_run_lists_its_steps_by_name(ui: Ui, hello: str, tier: str) -> None:
    """Each step has its state and its duration."""
    ui.ended(hello)
    children = {"flow_runs": {"parent_flow_run_id": {"any_": [hello]}, "name": {"like_": f"{tier} hello"}}}
    (run,) = ui.api("flow_runs/filter", children)
    ui.open(f"runs/flow-run/{run['id']}")
    ui.tab("Task Runs")
    page = ui.shows(*STEPS[tier])

    for step in STEPS[tier]:
        assert re.search(rf"{run['name']} {step} .{{0,40}}Completed \S+ \S+ [AP]M \d+ seconds?", page), page


def test_run_report_shows_decisions_steps_findings_and_deployment(ui: Ui, hello: str, laptop: LaptopState) -> None:
    """The report answers which revision and digest it is, what was decided and why, and where it runs."""
    ui.ended(hello)
    (container,) = docker.from_env().containers.list(
        filters={"label": ["cscm.environment=staging", "cscm.application=hello", "cscm.role=application"]}
    )
    digest = container.labels["cscm.digest"]
    ui.open(f"runs/flow-run/{hello}")
    ui.tab("Artifacts")
    ui.page.get_by_text("run-report-hello").click()
    page = ui.shows("Verdicts", "Steps", "Checks", "Findings", "Bases", "curated/base/python", "Rules")

    assert f"Runs in staging at http://127.0.0.1:18080/healthz as {container.name}" in page
    head = ["git", "-C", str(ROOT), "rev-parse", "--short=7", "HEAD"]
    revision = subprocess.run(head, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    assert f"revision {revision}" in page and f"digest {digest}" in page and "owner greetings" in page
    for gate in ("the intake gate", "the release gate", "the deploy gate"):
        assert f"Admitted at {gate}" in page, gate
    assert "image.blocked passed passed passed" in page, "each rule has its result at each gate"
    assert re.search(r"signature\.missing passed (?!passed)", page), "a rule of the deploy gate has one"
    for step in (step for steps in STEPS.values() for step in steps):
        assert re.search(rf" {step} \d+\.\d s ", page), step
    assert (laptop.database.kind == "starter") == ("the starter database, which covers few packages" in page)
    ui.picture("run-report")


def test_findings_are_a_table_and_deployment_is_a_working_link(ui: Ui, hello: str) -> None:
    """An empty table still has its header."""
    ui.ended(hello)
    ui.open(ui.artifact(hello, "findings-hello"))
    ui.shows("vulnerability", "severity", "package", "database")
    assert ui.page.get_by_role("row").count() >= 2
    ui.open(ui.artifact(hello, "address-staging-hello"))
    ui.shows("Where hello answers in staging")

    assert httpx.get(ui.page.get_by_role("link", name="http://").get_attribute("href") or "").status_code == 200


def test_refused_chain_shows_state_refused_and_every_reason(ui: Ui, careless: str) -> None:
    """The report lists the same reasons and remedies as the run's log."""
    ui.ended(careless)
    ui.open(f"runs/flow-run/{careless}")
    ui.shows("chain careless", "refused: dockerfile.failed: line 3:")
    ui.tab("Details")
    ui.shows("State Message refused at the intake gate: content.failed, dependencies.critical")
    assert ui.page.get_by_text("Refused", exact=True).first.is_visible()
    *reasons, last = _reasons(ui, careless)
    ui.open(ui.artifact(careless, "run-report-careless"))

    assert last == "and 2 more" and len({reason.partition(": ")[0] for reason in reasons}) >= 5
    ui.shows("Refused at the intake gate, policy sha256:", f"for {len(reasons) + 2} reasons:")
    ui.shows("Running Nowhere from this run.", last, *(reason.replace(": ", " ", 1) for reason in reasons))


def test_failed_chain_shows_cause_place_and_remedy(ui: Ui, start: Callable[[Path], str], tmp_path: Path) -> None:
    """A failure is no refusal: no gate gave a reason."""
    (tmp_path / "supply-chain.yaml").write_text("kind: service\nname: broken\nowner: tests\nprot: 8080\n")
    run = start(tmp_path)

    assert ui.ended(run)["state_type"] == "FAILED"
    ui.open(f"runs/flow-run/{run}")
    ui.shows("supply-chain.yaml:4:1: service.prot", "Correct it and try again.", "[declaration.invalid]")
    ui.tab("Details")
    ui.shows("State Message", "supply-chain.yaml:4:1: service.prot")
    assert ui.page.get_by_text("Failed", exact=True).first.is_visible()
    assert not _reasons(ui, run)


def _reasons(ui: Ui, run: str) -> list[str]:
    """Return code, fact and remedy of each reason in a run's log."""
    wanted = {"flow_run_id": {"any_": [run]}, "level": {"ge_": 30}}
    lines = [" ".join(line["message"].split()) for line in ui.api("logs/filter", {"logs": wanted, "limit": 200})]
    return [line.removeprefix("refused: ") for line in lines if line.startswith("refused: ")]


def test_event_feed_names_image_application_and_revision(ui: Ui, hello: str) -> None:
    """An operator reads in the feed what happened to an image."""
    ui.ended(hello)
    deadline = time.monotonic() + 60
    page = ""
    while "curated/hello@" not in page and time.monotonic() < deadline:  # the feed is up to a minute late
        ui.open(f"events?rangeType=span&seconds=-86400&events={quote(json.dumps(['cscm.image.signed']))}")
        page = ui.shows("Past day", "Cscm Image Signed")

    signed = r"Cscm Image Signed cscm\.image\.signed Resource Resource curated/hello@sha256:[0-9a-f]{64} "
    assert re.search(
        signed + r"Related Resources Resource application hello Resource revision \S{4,} Flow run", page
    ), page
