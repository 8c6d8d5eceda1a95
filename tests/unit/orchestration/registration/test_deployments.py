"""Deployments: declared ones are registered, and those no longer declared are removed."""

import sys
from pathlib import Path

import pytest

from orchestration import pagination
from orchestration.registration import (
    deploy,
    list_registered_deployments,
    read_declared_deployments,
    remove_undeclared_deployments,
)
from supply_chain.errors import ComponentFailed, SettingInvalid

ONE = "deployments: [{name: a, entrypoint: 'flows.chain:chain'}]"


class Server:
    """The part of Prefect's API that is used."""

    def __init__(self, flows, deployments):
        self.objects, self.deleted = {"/flows/filter": flows, "/deployments/filter": deployments}, []

    def __call__(self, method, path, body=None):
        if method == "DELETE":
            self.deleted.append(path)
            return None
        start = body["offset"]
        return self.objects[path][start : start + body["limit"]]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "prefect.yaml").write_text(ONE)
    return tmp_path


def test_declared_deployments_are_read_by_flow_and_name(tmp_path):
    """Two flows may have deployments of the same name; without a file there are none."""
    assert read_declared_deployments(tmp_path) == frozenset()

    flows = ("chain", "curate")
    text = "deployments:\n" + "".join(f"- {{name: on-demand, entrypoint: 'flows.{f}:{f}'}}\n" for f in flows)
    (tmp_path / "prefect.yaml").write_text(text)

    assert read_declared_deployments(tmp_path) == {"chain/on-demand", "curate/on-demand"}


@pytest.mark.parametrize(
    "text",
    ["deployments: [{entrypoint: x}]", "deployments: [{name: x}]", "deployments: 3", "- a", "deployments: ["],
)
def test_invalid_prefect_yaml_is_an_error(tmp_path, text):
    """Prefect itself would ignore many of these mistakes."""
    (tmp_path / "prefect.yaml").write_text(text)

    with pytest.raises(SettingInvalid, match=r"prefect\.yaml"):
        read_declared_deployments(tmp_path)


@pytest.mark.parametrize("page", [1, 2, 3, 4])
def test_registered_deployments_are_read_by_flow_over_all_pages(monkeypatch, page):
    """A missing deployment is noticed even if another flow has one of the same name."""
    monkeypatch.setattr(pagination, "PAGE", page)
    flows = [{"id": "1", "name": "chain"}, {"id": "2", "name": "curate"}]
    names = [{"name": name, "flow_id": "1"} for name in ("on-demand", "on-push", "nightly")]

    assert list_registered_deployments(Server(flows, names)) == {"chain/on-demand", "chain/on-push", "chain/nightly"}


def test_undeclared_deployment_of_the_chain_is_removed(project):
    """It would run with old settings; deployments that others registered stay."""
    registered = [
        {"id": "i-a", "name": "a", "flow_id": "1", "tags": ["cscm"]},
        {"id": "i-b", "name": "b", "flow_id": "1", "tags": ["chain", "cscm"]},
        {"id": "i-c", "name": "c", "flow_id": "1", "tags": ["chain"], "entrypoint": "flows.chain:chain"},
        {"id": "i-d", "name": "d", "flow_id": "2", "entrypoint": "flows.billing:billing"},
    ]
    server = Server([{"id": "1", "name": "chain"}], registered)

    server.objects["/flows/filter"].append({"id": "2", "name": "billing"})

    assert remove_undeclared_deployments(project, server) == ("chain/b",)
    assert server.deleted == ["/deployments/i-b"]


def test_nothing_is_removed_without_declarations(tmp_path):
    """A start in the wrong directory must not remove all deployments."""
    registered = [{"id": "i-a", "name": "a", "flow_id": "1", "tags": ["cscm"]}]
    server = Server([{"id": "1", "name": "chain"}], registered)

    assert remove_undeclared_deployments(tmp_path, server) == ()
    assert server.deleted == []


@pytest.mark.parametrize(
    ("status", "registered", "fails"),
    [(0, ["a"], ""), (0, [], "did not register chain/a"), (3, ["a"], "status 3.*no pool")],
)
def test_deploy_fails_if_prefect_did_not_register_deployment(project, status, registered, fails):
    """The exit status and the server's list of deployments decide."""
    script = project / "python"
    script.write_text(f"#!/bin/sh\necho $OF_THE_SERVER no pool >&2; echo $* > asked; exit {status}\n")
    script.chmod(0o755)
    server = Server([{"id": "1", "name": "chain"}], [{"name": name, "flow_id": "1"} for name in registered])
    messages: list[str] = []

    if fails:
        with pytest.raises(ComponentFailed, match=f"(?s){fails}"):
            deploy(project, [str(script)], {"OF_THE_SERVER": "here"}, server, messages.append)
    else:
        deploy(project, [str(script)], {}, server, messages.append)
    assert messages == ["deployments: registering chain/a"]
    assert (project / "asked").read_text().split() == ["-m", "prefect", "deploy", "--all", "--no-prompt"]


def test_deploy_without_prefect_yaml_does_not_call_prefect(tmp_path):
    """Another project may register the deployments."""
    messages: list[str] = []

    deploy(tmp_path, [str(Path(sys.executable).with_name("missing"))], {}, Server([], []), messages.append)

    assert messages == ["deployments: there is no prefect.yaml, so there are none"]
