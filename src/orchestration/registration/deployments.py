"""Registers the deployments of `prefect.yaml` on a Prefect server, and removes those it no longer declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestration.registration.api import PrefectApi, fetch_all
from orchestration.registration.prefect_file import read_declared_deployments
from orchestration.registration.work_queues import ensure_queues
from supply_chain.adapters.process.command import run
from supply_chain.errors import ComponentFailed

TAG = "cscm"
"""Tag of every deployment in `prefect.yaml` and of its runs. It identifies them on a server that several projects use.
"""


def list_registered_deployments(ask: PrefectApi) -> frozenset[str]:
    """Return the deployments that the server has, as `flow/name`."""
    return frozenset(_deployments(ask))


def _deployments(ask: PrefectApi) -> dict[str, dict[str, Any]]:
    flows, deployments = (fetch_all(kind, ask) for kind in ("flows", "deployments"))
    names = {flow["id"]: flow["name"] for flow in flows}
    return {f"{names.get(each['flow_id'])}/{each['name']}": each for each in deployments}


def is_tagged(deployment: Mapping[str, Any]) -> bool:
    """Return whether the deployment has the project's tag; those of other projects or made by an operator do not."""
    return TAG in deployment.get("tags", ())


def remove_undeclared_deployments(
    project: Path, ask: PrefectApi, is_ours: Callable[[Mapping[str, Any]], bool] = is_tagged
) -> tuple[str, ...]:
    """Remove deployments that an earlier version of the project declared, as they would still run; return their names.

    A project that declares no deployments removes nothing, because then it is not the project that they belong to.
    """
    if not (names := read_declared_deployments(project)):
        return ()
    undeclared = {name: each for name, each in _deployments(ask).items() if name not in names and is_ours(each)}
    for each in undeclared.values():
        ask("DELETE", f"/deployments/{each['id']}")
    return tuple(sorted(undeclared))


def deploy(
    project: Path, python: Sequence[str], environment: Mapping[str, str], ask: PrefectApi, say: Callable[[str], object]
) -> None:
    """Register every deployment of `prefect.yaml`; raise `ComponentFailed` if one is missing afterwards.

    `python` is the command that starts Python, `environment` its variables in addition to this process's own.
    """
    names = read_declared_deployments(project)
    if not names:
        say("deployments: there is no prefect.yaml, so there are none")
        return
    if changed := ensure_queues(project, ask):
        say(f"work queues: {', '.join(changed)}")
    say(f"deployments: registering {', '.join(sorted(names))}")
    done = run(
        [*python, "-m", "prefect", "deploy", "--all", "--no-prompt"],
        name="prefect deploy",
        timeout=180,
        environment=environment,
        cwd=project,
        quiet=True,
    )
    missing = names - list_registered_deployments(ask)
    if done.status != 0 or missing:
        raise ComponentFailed(
            f"Prefect did not register {', '.join(sorted(missing)) or 'all deployments'} "
            f"(status {done.status}):\n{(done.stdout + done.stderr)[-2000:].strip()}\n"
            "Correct prefect.yaml or the flow it names, then run the same command again."
        )
