"""Automations: read strictly, created once, corrected when they differ, and left disabled by an operator."""

import pytest

from orchestration.registration.automations import (
    ensure_automations,
    is_up_to_date,
    read_automations,
    translate_to_prefect,
)
from supply_chain.errors import DeclarationInvalid, SettingInvalid

GOOD = """
name: a run failed
description: d
trigger:
  expect: [prefect.flow-run.Failed]
  match: {prefect.resource.id: prefect.flow-run.*}
  match_related: {prefect.resource.id: [a, b]}
  within: 600
notify: {about: "{{ event.resource.name }}", summary: a run failed, remedy: read it}
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "deployments/automations").mkdir(parents=True)
    (tmp_path / "deployments/automations/one.yaml").write_text(GOOD)
    return tmp_path


class Server:
    """The part of Prefect's API that is used; it adds the same defaults to an automation as the real server."""

    def __init__(self):
        self.held, self.calls = {}, []

    def __call__(self, method, path, body=None):
        self.calls.append((method, path))
        if path.endswith("/filter"):
            return list(self.held.values())[body["offset"] : body["offset"] + body["limit"]]
        if method == "GET":
            return {"id": "the-id"}
        if method == "DELETE":
            self.held = {key: each for key, each in self.held.items() if each["id"] != path.rpartition("/")[2]}
            return None
        automation = {
            **body,
            "trigger": {**body["trigger"], "id": "t", "after": [], "within": float(body["trigger"]["within"])},
        }
        automation["trigger"]["match_related"] = {
            key: list(reversed(value)) for key, value in body["trigger"]["match_related"].items()
        }
        self.held[body["name"]] = {"id": "a", **automation}
        return self.held[body["name"]]

    @property
    def changes(self):
        return [call for call in self.calls if call[1].startswith("/automations/") and "filter" not in call[1]]


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def ensure(server):
    return lambda project, notify="supply-chain-log/operators": ensure_automations(project, notify, server)


def test_automations_are_created_once(project, server, ensure):
    """The second start changes nothing."""
    assert ensure(project) == ("a run failed",)
    assert ensure(project) == ()
    assert server.changes == [("POST", "/automations/")]
    (action,) = server.held["a run failed"]["actions"]
    assert (action["type"], action["deployment_id"]) == ("run-deployment", "the-id")
    assert action["parameters"]["remedy"] == "read it"


def test_duplicate_automations_are_removed_except_one(project, server, ensure):
    """Two registrations at the same time create two, and each notification would come twice."""
    ensure(project)
    server.held["again"] = {**server.held["a run failed"], "id": "b"}

    assert ensure(project) == ("a run failed",)
    assert [each["id"] for each in server.held.values()] == ["a"]
    assert ensure(project) == ()


def test_automation_that_differs_is_corrected(project, server, ensure):
    """It does not matter who changed it."""
    ensure(project)
    (project / "deployments/automations/one.yaml").write_text(GOOD.replace("within: 600", "within: 60"))

    assert ensure(project) == ("a run failed",)
    assert server.changes[-1] == ("PUT", "/automations/a")


def test_automation_disabled_by_operator_stays_disabled(project, server, ensure):
    """An operator has a reason to disable it."""
    ensure(project)
    server.held["a run failed"]["enabled"] = False

    assert ensure(project) == ()


def test_prefect_notification_block_is_sent_by_server(project, server, ensure):
    """The server also sends it if no worker runs, which may be the news."""
    ensure(project, "slack-webhook/operators")

    (action,) = server.held["a run failed"]["actions"]
    assert (action["type"], action["block_document_id"]) == ("send-notification", "the-id")
    assert "read it" in action["body"]
    assert ("GET", "/block_types/slug/slack-webhook/block_documents/name/operators") in server.calls


@pytest.mark.parametrize(
    "change",
    [
        ("expect:", "expects:"),
        ("[prefect.flow-run.Failed]", "[]"),
        ("within: 600", "within: -1"),
        (", remedy: read it", ""),
        ("{{ event.resource.name }}", "{{ event.resource.name"),
        ("description: d", "description: d\nenabled: maybe"),
    ],
    ids=str,
)
def test_automation_document_refuses_mistakes(project, change):
    """Prefect itself would ignore unknown keys, missing events and broken templates."""
    (project / "deployments/automations/one.yaml").write_text(GOOD.replace(*change))

    with pytest.raises(DeclarationInvalid):
        read_automations(project / "deployments/automations")


def test_automations_with_same_name_are_refused(project):
    """The second would replace the first at each start."""
    (project / "deployments/automations/two.yaml").write_text(GOOD)

    with pytest.raises(SettingInvalid, match="a run failed"):
        read_automations(project / "deployments/automations")


@pytest.mark.parametrize("key", ["expect", "match", "match_related", "posture", "within", "threshold", "for_each"])
def test_automation_comparison_covers_every_trigger_field(project, key):
    """A change of an uncompared field would never reach the server."""
    (one,) = read_automations(project / "deployments/automations")
    wanted = translate_to_prefect(one, {"type": "run-deployment", "deployment_id": "x"})
    other = {"expect": ["x"], "match": {}, "match_related": {}, "posture": "Proactive", "within": 1, "threshold": 2,
             "for_each": ["other"]}  # fmt: skip
    found = {**wanted, "trigger": {**wanted["trigger"], key: other[key]}}

    assert is_up_to_date(wanted, wanted)
    assert not is_up_to_date(found, wanted)
    assert not is_up_to_date({**wanted, "actions": []}, wanted)
    assert not is_up_to_date({**wanted, "description": "x"}, wanted)
