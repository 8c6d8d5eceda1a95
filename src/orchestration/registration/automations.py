"""Makes Prefect's automations that notify people, from the documents in `deployments/automations/`.

An automation uses the profile's notification block if its type is one of Prefect's own, because the server then sends
the notification even without a worker. Otherwise it starts a run of `alert/on-demand`, which waits for a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from orchestration.registration.api import PrefectApi, fetch_all
from supply_chain.errors import SettingInvalid
from supply_chain.model.documents import read_document
from supply_chain.model.image import Model

DIRECTORY = Path("deployments/automations")
OURS = "supply-chain-"
"""Prefix of the types of the project's own blocks, which Prefect's server does not know."""
ALERT = "alert/on-demand"
Line = Annotated[str, StringConstraints(pattern=r"^\S[^\n]*$", max_length=300)]


class Trigger(Model):
    """The events that an automation waits for."""

    expect: tuple[Line, ...] = Field(min_length=1, description="the names of the events")
    match: dict[str, str] = Field(description="label of the resource → its required value; a final * is any text")
    match_related: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="label of a related resource → its required value or values",
    )
    within: int = Field(default=0, ge=0, description="seconds for which the same event is not reported again")
    for_each: Line = Field(
        default="prefect.resource.id",
        description="the label that identifies the same event, such as `related:deployment:prefect.resource.id`",
    )


class AutomationMessage(Model):
    """The text of the notification. Expressions in `{{ }}` are replaced by values from the event."""

    about: Line = Field(description="the subject, such as `{{ event.resource.name }}`")
    summary: Line = Field(description="what happened, in a few words")
    remedy: Line = Field(description="what to do")

    @field_validator("about")
    @classmethod
    def _check_braces(cls, value: str) -> str:
        if value.count("{{") != value.count("}}"):
            raise ValueError("every {{ needs its }}")
        return value


class Automation(Model):
    """One document of `deployments/automations/`."""

    name: Line = Field(description="the name in Prefect")
    description: Line = Field(description="the description in Prefect")
    trigger: Trigger = Field(description="when it notifies")
    notify: AutomationMessage = Field(description="the text of the notification")


def read_automations(directory: Path) -> tuple[Automation, ...]:
    """Return all automations; raise `SettingInvalid` if two have the same name, because Prefect would keep both."""
    automations = tuple(read_document(path, Automation) for path in sorted(directory.glob("*.yaml")))
    names = [each.name for each in automations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingInvalid(f"Two automations have the name {twice[0]!r}.\nGive each its own name in {DIRECTORY}.")
    return automations


def ensure_automations(project: Path, notify: str, ask: PrefectApi) -> tuple[str, ...]:
    """Create or correct Prefect's automations from the documents; return the names of those created or changed.

    Raises `ComponentFailed` if Prefect does not accept one.
    """
    automations = read_automations(project / DIRECTORY)
    action = _notify_action(notify, ask) if not notify.startswith(OURS) else _run_action(ask)
    return ensure_each([translate_to_prefect(each, action) for each in automations], ask)


def ensure_each(bodies: Iterable[dict[str, Any]], ask: PrefectApi) -> tuple[str, ...]:
    """Create or correct automations in the form of Prefect's API; return the names of those created or changed.

    Of several that are alike, which two registrations at the same time create, one stays: if an operator turned one
    off, another one.
    """
    existing: dict[str, list[dict[str, Any]]] = {}
    for each in fetch_all("automations", ask):
        existing.setdefault(each["name"], []).append(each)
    changed = []
    for body in bodies:
        same_name = sorted(existing.get(body["name"], []), key=lambda each: (not each["enabled"], each["id"]))
        alike = [each for each in same_name if is_up_to_date(each, body)]
        for other in alike[1:]:
            ask("DELETE", f"/automations/{other['id']}")
        if not same_name:
            ask("POST", "/automations/", body)
        elif not alike:
            ask("PUT", f"/automations/{same_name[0]['id']}", body)
        elif len(alike) == 1:
            continue
        changed.append(body["name"])
    return tuple(changed)


def translate_to_prefect(automation: Automation, action: Mapping[str, Any]) -> dict[str, Any]:
    """Return the automation in the form of Prefect's API; `action` is the action that notifies."""
    trigger, message = automation.trigger, automation.notify
    if action["type"] == "run-deployment":
        parameters: dict[str, Any] = {"parameters": message.model_dump()}
    else:
        parameters = {
            "subject": f"{message.summary}: {message.about}",
            "body": f"{message.summary}: {message.about}\n\n{message.remedy}",
        }
    return {
        "name": automation.name,
        "description": automation.description,
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": sorted(trigger.expect),
            "match": trigger.match,
            "match_related": {k: v if isinstance(v, str) else list(v) for k, v in trigger.match_related.items()},
            "threshold": 1,
            "for_each": [trigger.for_each],
            "within": trigger.within,
        },
        "actions": [{**action, **parameters}],
    }


def is_up_to_date(automation: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Return whether Prefect's automation has the wanted content.

    Prefect adds fields of its own and does not keep the order of lists. An automation that an operator turned off
    counts too, so that it stays off.
    """
    trigger, asked_for = automation["trigger"], body["trigger"]
    same = all(_normalize(trigger.get(key)) == _normalize(value) for key, value in asked_for.items() if key != "within")
    actions, (wanted_action,) = automation["actions"], body["actions"]
    return (
        same
        and len(actions) == 1
        and float(trigger.get("within") or 0) == asked_for["within"]
        and automation["description"] == body["description"]
        and all(actions[0].get(key) == value for key, value in wanted_action.items())
    )


def _normalize(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _normalize(each) for key, each in value.items()}
    return sorted(value) if isinstance(value, list) else value


def _run_action(ask: PrefectApi) -> dict[str, Any]:
    deployment = ask("GET", f"/deployments/name/{ALERT}")
    return {"type": "run-deployment", "source": "selected", "deployment_id": deployment["id"]}


def _notify_action(notify: str, ask: PrefectApi) -> dict[str, Any]:
    kind, _, name = notify.partition("/")
    block = ask("GET", f"/block_types/slug/{kind}/block_documents/name/{name}")
    return {"type": "send-notification", "block_document_id": block["id"]}
