"""What is read from `prefect.yaml`."""

from __future__ import annotations

from pathlib import Path

from orchestration.registration.prefect_file import read_started_deployments

PREFECT_FILE = """
deployments:
- name: on-push
  entrypoint: flows.catch_up:catch_up
  triggers:
  - {type: event, expect: [pushed, waiting]}
  - {type: event, expect: [pushed]}
- {name: by-hand, entrypoint: "flows.promote:promote"}
- name: on-push
  entrypoint: flows.promote:promote
  triggers: [{type: event, expect: [pushed]}]
"""


def test_event_starts_each_deployment_whose_triggers_expect_it(tmp_path: Path) -> None:
    """Two triggers of a deployment count once, and a deployment without triggers not at all."""
    (tmp_path / "prefect.yaml").write_text(PREFECT_FILE, encoding="utf-8")

    assert read_started_deployments(tmp_path) == {
        "pushed": ["catch-up/on-push", "promote/on-push"],
        "waiting": ["catch-up/on-push"],
    }
