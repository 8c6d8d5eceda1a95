"""Terminal escapes and markup in names and messages: terminal, logs, events and pages show them as plain text."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.adversary.attacked import PLACE, Make
from tests.support.access import Prefect
from tests.support.command import cscm

pytestmark = pytest.mark.real

WORDS = "\x1b]0;owned\x07\x1b[2J<img src=x onerror=alert(1)>`a`|[b](javascript:c)\u202e\x9b31m"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
DECLARATION = f"""\
kind: service
name: hostile
owner: tests
test:
  command: [/subject, crash, {ascii(WORDS).replace("'", '"')}]
probe: {{port: 8080, path: /healthz}}
environments: [{PLACE}]
limits: {{critical: null, high: null, medium: null, unknown: null}}
"""
SECRET = "key = " + repr("AKIA" + "Q3EGR2VXKPLMNBTZ") + "\n"


def test_markup_from_an_application_is_printed_as_text(bases: None, application: Make, prefect: Prefect) -> None:
    """It comes from a remote's address, a file name and a failing command."""
    printable = CONTROL.sub("", WORDS)  # other characters are refused in both: tests/unit/adapters/git/test_snapshot.py
    files = {"supply-chain.yaml": DECLARATION, f"{printable.replace('/', '')}.py": SECRET}
    source = application("hostile", files, remote=f"https://{printable}")

    ran = cscm("chain", str(source))

    assert ran.status == 3, ran.stderr
    assert {"tests.failed", "secrets.failed"} <= set(re.findall(r"[a-z]+\.failed", str(ran.result)))
    assert "onerror" in ran.result
    assert not CONTROL.search(ran.result) and not CONTROL.search(ran.stderr)
    asked = {"flow_runs": {"name": {"like_": "chain hostile"}}, "sort": "START_TIME_DESC", "limit": 1}
    (run,) = prefect.ask("flow_runs/filter", asked)
    here = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    pages = prefect.ask("artifacts/filter", here)
    texts = [str(page[key]) for page in pages for key in ("key", "description") if page[key]]
    texts += [page["data"] for page in pages if page["type"] == "markdown"]
    assert any("onerror" in text for text in texts)
    logs = [each["message"] for each in prefect.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})]
    assert logs
    for text in (*texts, *logs, run["name"], str(run["state"]["message"])):
        assert not CONTROL.search(text), text
    for page in pages:
        if page["type"] == "markdown":
            assert not re.search(r"(?<!\\)(?:<img|\[b\])", page["data"]), page["data"]


def test_markup_from_command_line_and_forms_is_printed_as_text(prefect: Prefect) -> None:
    """It comes as an image or an environment, and also appears in the name of a run."""
    image, nothing = f"dev/{WORDS}@sha256:{WORDS}", f"sha256:{'0' * 64}"
    typed = {("curate", image): 2, ("deploy", nothing, "--environment", WORDS): 1}
    forms = {"curate/on-demand": {"image": image}, "deploy/on-demand": {"image": nothing, "environment": WORDS}}
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda args: cscm(*args), typed))
        runs = [prefect.start(deployment, **parameters) for deployment, parameters in forms.items()]
    for ran, status in zip(ended, typed.values(), strict=True):
        assert ran.status == status, ran.stderr
        assert not CONTROL.search(ran.stderr), ran.stderr
    assert "does not name an image" in ended[0].stderr and "[setting.invalid]" in ended[1].stderr
    for started, code in zip(runs, ("[declaration.invalid]", "[setting.invalid]"), strict=True):
        run = prefect.ended(started)
        assert "owned" in run["name"] and run["state_type"] == "FAILED"
        assert code in run["state"]["message"]
        assert not CONTROL.search(run["name"] + str(run["state"]["message"]))
