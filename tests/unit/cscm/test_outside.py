"""`cscm verdict` and `cscm key`: what others need, and what an enforcer would read."""

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cscm import outside
from cscm.main import main
from supply_chain.errors import SettingInvalid
from supply_chain.evidence.published import PublishedVerdicts
from supply_chain.evidence.summary import make_summary
from supply_chain.model.tier import JUDGE, Gate, TierName
from tests.support.builders import NOON
from tests.support.facts import CURATED, OFFERED

REASON = {"code": "scan.high", "fact": "CVE-1\x1b[2J", "remedy": "rebuild"}


@pytest.fixture
def publish(world, monkeypatch):
    """Return a function that publishes a verdict, which `cscm verdict` then reads."""
    ports = SimpleNamespace(verdicts=world.verdict_store(TierName.EXECUTION), repositories=world.ecr)
    monkeypatch.setattr(outside, "load_execution_ports", lambda: ports)
    world.registry.add(CURATED)

    def run(gate=Gate.RELEASE, environment="", reasons=(), **changes):
        ref = OFFERED if gate is Gate.INTAKE else CURATED
        predicate = make_summary(
            ref, gate, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(), now=NOON, environment=environment,
            **changes,
        ).predicate()  # fmt: skip
        PublishedVerdicts(world.verdict_store(JUDGE[gate]), world.ecr).prepare(ref, predicate, NOON)()

    return run


def cscm(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.mark.parametrize(("gate", "environment", "options"), [
    (Gate.INTAKE, "", ("--gate", "intake")),
    (Gate.RELEASE, "", ()),
    (Gate.DEPLOY, "production", ("--environment", "production")),
])  # fmt: skip
def test_verdict_of_each_gate_is_printed(publish, gate, environment, options):
    """The digits of a digest are enough."""
    publish(gate, environment)

    done = cscm("verdict", CURATED.short, *options)

    assert done.exit_code == 0, done.output
    assert f"urn:cscm:gate:{JUDGE[gate]}/{gate}" in done.stdout and "PASSED" in done.stdout
    found = json.loads(cscm("verdict", CURATED, *options, "--json").stdout)
    assert found["verdict"]["verifier"]["id"] == f"urn:cscm:gate:{JUDGE[gate]}/{gate}"
    assert found["admits"] is True


def test_refusal_of_an_image_that_was_never_curated_is_printed(publish):
    """The intake gate refuses it before it is copied."""
    publish(Gate.INTAKE, reasons=[REASON])

    assert cscm("verdict", OFFERED, "--gate", "intake").exit_code == 3


def test_refusal_ends_with_the_status_of_refusals(publish):
    """A script can refuse the image; the text of a reason cannot change the terminal."""
    publish(reasons=[REASON])

    done = cscm("verdict", CURATED)

    assert done.exit_code == 3
    assert "scan.high: CVE-1" in done.stdout and "\x1b" not in done.stdout
    assert cscm("verdict", CURATED, "--json").exit_code == 3


def test_expired_admission_ends_with_the_status_of_refusals(publish, world):
    """It rested on a waiver until then."""
    publish(waivers=("w",), expires=world.now - timedelta(days=1))

    done = cscm("verdict", CURATED)

    assert done.exit_code == 3 and "PASSED but expired" in done.stdout
    assert json.loads(cscm("verdict", CURATED, "--json").stdout)["admits"] is False


def test_absent_verdict_is_an_error(publish):
    """It is not printed as a refusal: nobody may have judged."""
    done = cscm("verdict", CURATED, "--environment", "production")

    assert done.exit_code == 1 and done.stdout == ""
    assert "[verdict.missing]" in done.stderr


def test_key_prints_the_verdict_key_on_request(monkeypatch):
    """The two keys of a tier are not interchangeable."""
    block = SimpleNamespace(trusted_key=lambda tier: f"evidence {tier}", trusted_verdict_key=lambda tier: f"own {tier}")
    monkeypatch.setattr(outside, "load_block", lambda kind, name: block)

    assert cscm("key", "curation").stdout == "evidence curation\n"
    assert cscm("key", "curation", "--verdicts").stdout == "own curation\n"


def test_key_of_a_tier_without_gate_is_an_error(monkeypatch):
    """Development publishes no verdicts."""

    def fail(tier):
        raise SettingInvalid(f"No key of {tier}.\nAdd it.")

    monkeypatch.setattr(outside, "load_block", lambda *_: SimpleNamespace(trusted_verdict_key=fail))

    assert cscm("key", "development", "--verdicts").exit_code == 1
