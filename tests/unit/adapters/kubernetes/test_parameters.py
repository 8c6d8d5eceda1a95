"""The parameters of a cluster: read by anybody who may, and written only with a token of the publisher."""

import json

import httpx2
import pytest
from lightkube.config.kubeconfig import KubeConfig
from lightkube.config.models import Cluster, User

from supply_chain.adapters.kubernetes import client as module
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.kubernetes.parameters import ClusterParameters
from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.admitted import AdmittedImages

ADMITTED = AdmittedImages(
    environment="staging", repositories="registry.test/curated/", images={"hello": {"sha256:" + "a" * 64: ""}}
)
NOBODYS = AdmittedImages(environment="", repositories="", images={})
TOKEN = "/api/v1/namespaces/cscm-system/serviceaccounts/cscm-publisher/token"
PARAMETERS = "/api/v1/namespaces/cscm-system/configmaps"


@pytest.fixture
def api(monkeypatch):
    """The requests of a cluster in memory, and its answers by method and path."""
    requests: list[httpx2.Request] = []
    answers: dict[tuple[str, str], tuple[int, dict[str, object]]] = {}

    def answer(request):
        requests.append(request)
        code, body = answers[request.method, request.url.path]
        return httpx2.Response(code, json=body)

    connect = module._connect
    transport = httpx2.MockTransport(answer)
    monkeypatch.setattr(module, "_connect", lambda config, manager: connect(config, manager, transport))
    config = KubeConfig.from_one(cluster=Cluster(server="https://cluster.test"), user=User(token="own")).get()
    assert config
    parameters = ClusterParameters(lambda: ClusterClient(module._connect(config, "cscm"), "https://cluster.test"))
    return parameters, requests, answers


def test_writes_use_a_token_of_the_publisher_and_the_version(api):
    """One token serves for several writes."""
    parameters, requests, answers = api
    answers["POST", TOKEN] = 201, {"metadata": {}, "spec": {"audiences": []}, "status": {"token": "short-lived"}}
    answers["PUT", f"{PARAMETERS}/admitted-apps"] = 200, {"metadata": {"name": "admitted-apps"}}
    answers["POST", PARAMETERS] = 201, {"metadata": {"name": "admitted-apps"}}

    assert parameters.write("admitted-apps", ADMITTED, "7") and parameters.write("admitted-apps", ADMITTED, "")

    token, put, post = requests
    assert (token.headers["Authorization"], put.headers["Authorization"]) == ("Bearer own", "Bearer short-lived")
    assert json.loads(put.content)["metadata"]["resourceVersion"] == "7"
    assert "resourceVersion" not in json.loads(post.content)["metadata"]
    assert json.loads(put.content)["data"] == ADMITTED.data


def test_parameters_of_another_version_are_not_written(api):
    """Somebody wrote them meanwhile; any other refusal is an error."""
    parameters, _, answers = api
    answers["POST", TOKEN] = 201, {"metadata": {}, "spec": {"audiences": []}, "status": {"token": "short-lived"}}
    answers["PUT", f"{PARAMETERS}/admitted-apps"] = 409, {"kind": "Status", "code": 409, "message": "modified"}
    assert not parameters.write("admitted-apps", ADMITTED, "7")

    answers["PUT", f"{PARAMETERS}/admitted-apps"] = 403, {"kind": "Status", "code": 403, "message": "no"}
    with pytest.raises(ClusterRefused):
        parameters.write("admitted-apps", ADMITTED, "7")


def test_parameters_written_by_others_admit_no_image(api):
    """They count as those of no environment, so that they are replaced."""
    parameters, _, answers = api
    read = "GET", f"{PARAMETERS}/admitted-apps"
    answers[read] = 404, {"kind": "Status", "code": 404, "message": "not found"}
    assert parameters.read("admitted-apps") is None

    answers[read] = 200, {"metadata": {"resourceVersion": "3"}, "data": ADMITTED.data}
    assert parameters.read("admitted-apps") == (ADMITTED, "3")

    answers[read] = 200, {"metadata": {"resourceVersion": "4"}, "data": {"images": "all"}}
    assert parameters.read("admitted-apps") == (NOBODYS, "4")
