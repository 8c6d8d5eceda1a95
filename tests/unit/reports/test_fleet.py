"""How tables name what runs: the environment, and in a cluster the workload with its pods."""

from datetime import UTC, datetime
from typing import Any

from supply_chain.fleet.image import Running
from supply_chain.fleet.where import Place
from supply_chain.model.image import ImageRef
from supply_chain.reports import observation_lines, observation_rows, place_row
from tests.support.observations import look

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


def running(**changes: Any) -> Running:
    values = {"environment": "staging", "application": "hello", "container": "c", "name": "staging-hello",
              "address": "", "host": "laptop", "since": NOON}  # fmt: skip
    return Running.model_validate(values | changes)


def in_cluster(**changes: Any) -> Running:
    values = {"host": "", "cluster": "shop", "namespace": "apps", "workload": "Deployment/hello",
              "pods": ("hello-1", "hello-2")}  # fmt: skip
    return running(**values | changes)


def test_search_result_names_workloads_and_pods() -> None:
    """Whoever looks for a vulnerability finds the pods, also those that nobody recorded."""
    found = (
        running(),
        in_cluster(environment="production"),
        in_cluster(environment="", workload="Pod/by-hand", pods=("by-hand",)),
        in_cluster(environment="", workload="CronJob/nightly", pods=()),
        running(environment="", name="stranger"),
    )

    row = place_row(Place(image=REF, owner="", tags=(), match="is that image", running=found))

    assert row["runs in"].split("; ") == [
        "production: shop/apps Deployment/hello (2 pods: hello-1, hello-2)",
        "staging",
        "stranger (unrecorded)",
        "unrecorded: shop/apps CronJob/nightly",
        "unrecorded: shop/apps Pod/by-hand (1 pod: by-hand)",
    ]


def test_observation_names_workload() -> None:
    """A container's name says enough on a host, but not in a cluster."""
    workload = "Deployment/hello in shop/apps"

    rows = [observation_rows(each)[0]["workload"] for each in (look(0), look(0, workload=workload))]

    assert rows == ["staging-hello-1", workload]
    assert workload in observation_lines(look(0, workload=workload))
