"""Generate the parts of the documentation that come from the code; `make docs` runs it.

These are docs/errors.md, most of docs/reference/, and JSON Schemas. The text about a code, a key, a command or an event
is the docstring, description or message in the code; nothing is added. What a message or --help says is left out.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

import blocks
import tasks
from cscm.policy import PolicyCheck
from cscm.running import EXIT
from cscm.vex import CheckedStatement
from cscm_laptop.checks import Check as DoctorCheck
from cscm_laptop.cluster.cluster import ClusterStatus
from cscm_laptop.laptop import Part
from cscm_laptop.profile import Profile
from orchestration import observations, verdict_events
from orchestration.registration.automations import Automation
from orchestration.registration.prefect_file import read_started_deployments
from orchestration.registration.views import Views
from scripts.reference_errors import MADE, errors_page, list_codes
from scripts.reference_models import flat_lists, lines, written
from scripts.reference_source import documented
from supply_chain.curation.vex import VexAttachment
from supply_chain.development.preflight import Preflight
from supply_chain.evidence import statement
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.checks import CheckResult
from supply_chain.evidence.encryption import EncryptionRecord
from supply_chain.evidence.image_status import LifecycleDecision
from supply_chain.evidence.published import CurrentVerdict
from supply_chain.evidence.soak import Soak
from supply_chain.evidence.summary import Summary
from supply_chain.execution.deployment import Deployment
from supply_chain.execution.enforcement.installation import Change, EnforcementStatus
from supply_chain.execution.environment import DockerEnvironment, KubernetesEnvironment
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.observation import Observation
from supply_chain.execution.records import DeploymentRecord
from supply_chain.fleet.explain import Explanation
from supply_chain.fleet.exposure import RescanReport
from supply_chain.fleet.image import FleetImage
from supply_chain.fleet.preview import PolicyPreview
from supply_chain.fleet.reconcile import ReconcileResult
from supply_chain.fleet.waivers import WaiverUse
from supply_chain.fleet.where import Place
from supply_chain.lifecycle.apply import Applied
from supply_chain.lifecycle.decisions import DecisionResult
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.rules import Examples, Rules
from supply_chain.model.declaration import DECLARATION, FILE
from supply_chain.model.image import Candidate, ImageRef, ReleasedImage
from supply_chain.policy.documents import PolicyDocument
from supply_chain.policy.explanation import GateExplanation
from supply_chain.policy.names import NameRegister
from supply_chain.policy.outcome import Refused
from supply_chain.policy.people import PeopleDocument
from supply_chain.policy.reviews import ReviewDocument, ReviewReport
from supply_chain.policy.vex import VexReport
from supply_chain.policy.waivers import WaiverDocument
from supply_chain.promotion.bridge import Message
from supply_chain.vulnerability.findings import Report

DOCS = Path(__file__).parents[1] / "docs"


WRITTEN = (
    "A key without a type is text. `[]` is a list, `?` means that the value can be `null`. Brackets have the default, "
    "unless it is null, false or empty."
)
"""The notation of keys on all pages."""


def declaration_page() -> str:
    """Return docs/reference/declaration.md."""
    models = {schema["title"]: (schema, lines(schema, definitions)) for schema, definitions in written(DECLARATION)}
    (_, of_service), (_, of_base) = models.pop("Service"), models.pop("Base")
    sections = [
        ("Both kinds", "", [line for line in of_service if line in of_base]),
        ("Service", "", [line for line in of_service if line not in of_base]),
        ("Base", "", [line for line in of_base if line not in of_service]),
        *((title, f"{schema['description']}\n\n", keys) for title, (schema, keys) in models.items()),
    ]
    return _page(
        FILE,
        "A team declares its application in this document next to the Dockerfile. `kind` is `service`, which runs, or "
        "`base`, on which other images are built. Unknown or repeated keys, YAML tags and aliases, and more than "
        "256 KiB are errors (`declaration.invalid`) with line and column. Editors complete the document from "
        f"[its JSON Schema](../supply-chain.schema.json), which `cscm schema` prints. {WRITTEN}",
        "\n".join(
            f"## {title}\n\n{about}" + "".join(f"- {line}\n" for line in keys) for title, about, keys in sections
        ),
    )


FILES: dict[str, type[BaseModel]] = {
    "names.yaml": NameRegister,
    "people.yaml": PeopleDocument,
    "waivers/NAME.yaml": WaiverDocument,
    "reviews/NAME.yaml": ReviewDocument,
    "policies/NAME.yaml": PolicyDocument,
    "lifecycle/NAME.yaml": Rules,
    "lifecycle/NAME.tests.yaml": Examples,
    "profiles/laptop.yaml": Profile,
    "automations/NAME.yaml": Automation,
    "views.yaml": Views,
}
"""The operator's files of one form."""
ENVIRONMENTS = "environments/NAME.yaml"
"""The operator's files that have a form for each target."""


def deployments_page() -> str:
    """Return docs/reference/deployments.md."""
    forms = flat_lists({"On a container host": DockerEnvironment, "In a cluster": KubernetesEnvironment})
    return _page(
        "Operator's files",
        "These files are in `deployments/`, and are read as strictly as a declaration. For editors, "
        "[the JSON Schemas](../deployments.schema.json) describe every key of each: "
        f"{', '.join(f'`{file}`' for file in (ENVIRONMENTS, *FILES))}. `CSCM_PROFILE` names another profile.",
        "## An environment\n\nThe notation is [that of a declaration](declaration.md); a key after a dot belongs to "
        f"the object, list or map before it.\n\n{forms}",
    )


DOCUMENTS = {
    "Tier": "`development`, `curation`, `execution` and `lifecycle`",
    "Bridge": "`bridge`",
    "ContainerHost": "`laptop`, and each `host` of an environment",
    "KubernetesCluster": "`laptop`, and each `cluster` of an environment",
    "GitRepository": "each `delivery.git.repository` of an environment",
    "Workbench": "`workbench`",
    "Inventory": "`inventory`",
    "LogNotification": "`operators`",
}
"""The documents of each type of block, in the order of the page."""


def blocks_page() -> str:
    """Return docs/reference/blocks.md."""
    parts = []
    for kind in sorted(blocks.__all__, key=[*DOCUMENTS].index):
        block = getattr(blocks, kind)
        keys = ", ".join(f"`{key}`" for key in block.model_json_schema()["properties"])
        parts.append(
            f"## {block._block_type_name}\n\n{block._description} Its documents: {DOCUMENTS[kind]}.\n"
            + (f"\nFields: {keys}.\n" if keys else "")
        )
    return _page(
        "Blocks",
        "An operator configures these in Prefect, whose form describes each field; `cscm up` fills them on a laptop "
        "([AWS](../how-to/aws.md#3-fill-the-blocks)).",
        "\n".join(parts),
    )


# --- commands -----------------------------------------------------------------------------------------


class DeadMessage(Message):
    """A message in the dead-letter queue, with the reason."""

    receipt: str = Field(exclude=True)


PRINTED: dict[str, list[type[BaseModel]]] = {
    "chain": [Deployment, ReleasedImage, Refused],
    "build": [Candidate],
    "curate": [ReleasedImage, Refused],
    "deploy": [Deployment, Refused],
    "break-glass": [Deployment, Refused],
    "check": [Preflight],
    "approve": [Approval],
    "isolate": [IsolationRecord],
    "unseal": [IsolationRecord],
    "monitor": [Observation],
    "enforce plan": [Change],
    "enforce apply": [Change],
    "enforce status": [EnforcementStatus],
    "images": [FleetImage],
    "where": [Place],
    "explain": [Explanation],
    "inventory": [ReconcileResult],
    "block": [DecisionResult],
    "unblock": [DecisionResult],
    "hold": [DecisionResult],
    "unhold": [DecisionResult],
    "lifecycle plan": [Plan],
    "lifecycle apply": [Applied],
    "rescan": [RescanReport],
    "bases": [ImageRef, Refused],
    "policy check": [PolicyCheck],
    "waivers": [WaiverUse],
    "reviews": [ReviewReport],
    "verdict": [CurrentVerdict],
    "policy explain": [GateExplanation],
    "policy preview": [PolicyPreview],
    "vex attach": [VexAttachment],
    "vex check": [CheckedStatement],
    "vex list": [VexReport],
    "status": [Part],
    "cluster status": [ClusterStatus],
    "doctor": [DoctorCheck],
    "events dead": [DeadMessage],
    "events replay": [DeadMessage],
    "events discard": [DeadMessage],
}
"""The models that each command prints with --json; those in `LISTS` print a list, unless the result is a refusal."""
LISTS = (
    "monitor",
    "enforce plan",
    "enforce apply",
    "images",
    "where",
    "explain",
    "inventory",
    "bases",
    "waivers",
    "vex check",
    "vex list",
    "status",
    "doctor",
    "events dead",
    "events replay",
    "events discard",
)


def commands_page() -> str:
    """Return docs/reference/commands.md."""
    return _page(
        "The command `cscm`",
        "`cscm` is in `.cscm/venv/bin`. It uses the project of the current directory, or the one that it is "
        "installed from. `cscm --help` lists the commands; the option `--help` of each has arguments, options and "
        "examples.",
        "## Exit status\n\n"
        + "".join(f"- {status}: {meaning}\n" for status, meaning in EXIT.items())
        + "\n## Output\n\nResults, and the progress of `up`, `down` and `reset`, are on standard output; steps "
        "and errors are on standard error. Every command with a result has `--json`, which prints it as one JSON "
        "value; [the JSON Schema](../results.schema.json) has each command's. Later versions may add keys.\n",
    )


# --- evidence and events ------------------------------------------------------------------------------


PREDICATES: dict[str, type[BaseModel]] = {
    statement.SUMMARY: Summary,
    statement.ENCRYPTION: EncryptionRecord,
    statement.DEPLOYMENT: DeploymentRecord,
    statement.SOAK: Soak,
    statement.APPROVAL: Approval,
    statement.BREAK_GLASS: BreakGlass,
    statement.ISOLATION: IsolationRecord,
    statement.LIFECYCLE: LifecycleDecision,
    f"{statement.TEST_RESULT}#cscm": CheckResult,
    f"{statement.VULNERABILITIES}#cscm": Report,
}
"""The models of predicates by type; `#cscm`: of what is ours in a standard one."""


def evidence_page() -> str:
    """Return docs/reference/evidence.md."""
    types = [
        f"- `{value}`: {text}\n" for value, text in documented(statement) if value.startswith(("https://", "urn:"))
    ]
    return _page(
        "Evidence",
        "Each statement is an in-toto statement v1 in a sigstore bundle (`"
        + statement.BUNDLE
        + "`) that is attached to the image ([explanation](../explanation/evidence.md)). Standard predicates have the "
        "standard's fields, and ours in `cscm`: [JSON Schemas](../evidence.schema.json).",
        "".join(types),
    )


OTHER_EVENTS = """\
These events are not about one step:

- `cscm.image.pushed` comes from the bridge, for the newest image pushed to a repository `dev/*`. Payload `image`,
  `repository`, `digest`, `tag`, `origin`.
- `cscm.pushes.waiting` comes from the bridge if more applications wait than it announces one by one.
  Resource `cscm.bridge`; payload `applications` and `pushes` (numbers).
- `cscm.database.updated` comes from `cscm up` if it replaced the vulnerability database. Resource
  `cscm.database.<digest>`; payload `kind`, `built`, `digest`.
- `cscm.rescan.signed` comes from a rescan after the last report that it signed. Resource `cscm.rescan`; payload
  `reports` (number).
- `cscm.environment.drifted`, once for what nobody deployed, and `cscm.environment.unprotected` come from `monitor`.
  Resource `cscm.environment.<name>`; payload `environment`, `deviations`, `what`.
- `cscm.advisory.published` is for programs that follow advisories to post. Resource `cscm.advisory.<name>`; payload
  `packages`: names, `name@version` or package URLs. It starts a rescan of the images that contain one of them, and
  without `packages` of all images.
"""


def events_page() -> str:
    """Return docs/reference/events.md."""
    started = read_started_deployments(Path(__file__).parents[1])
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, task, payload in sorted(_events()):
        alike.setdefault((task, tuple(payload)), []).append(name)
    entries = [f"- {list_codes(names)} (`{task}`): {list_codes(payload)}" for (task, payload), names in alike.items()]
    return _page(
        "Events",
        "For automations to act on. The resource is `cscm.image.<digest>`, with `cscm.repository`, `cscm.application` "
        "and `cscm.origin`. The application and, if it is known, the revision are related resources. Every payload has "
        "`image` and `origin`, which is `chain` in a chain and `tier` if a tier runs alone. A step that was "
        "[proven before](../explanation/proven-once.md) emits nothing, except `deploy`, which confirms the deployment.",
        "After each event is the task that emits it, and what else its payload has:\n\n"
        + "".join(f"{line.removesuffix(': ')}\n" for line in entries)
        + f"\n{OTHER_EVENTS}\nThese events start Prefect deployments; `prefect.yaml` has the conditions:\n\n"
        + "".join(f"- `{event}`: {list_codes(names)}\n" for event, names in sorted(started.items())),
    )


def _events() -> Iterator[tuple[str, str, list[str]]]:
    files = {file.stem: file for file in Path(tasks.__path__[0]).glob("*.py")}
    files["monitor"] = Path(observations.__file__)  # what the task and its watch emit
    files["gates"] = Path(verdict_events.__file__)  # also emitted if the gate refuses just before an image serves
    for task, file in sorted(files.items()):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
            if not isinstance(call.func, ast.Name) or call.func.id != "emit":
                continue
            payload = [name for word in call.keywords for name in _named(word)]
            for name in (each for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant)):
                yield f"cscm.{name.value!s}", task, payload


def _named(word: ast.keyword) -> list[str]:
    """Return the name of a keyword argument, or the keys of the dictionary that `**` unpacks."""
    if word.arg:
        return [word.arg]
    return [str(key.value) for key in getattr(word.value, "keys", ()) if isinstance(key, ast.Constant)]


def _page(title: str, about: str, body: str) -> str:
    return f"# {title}\n\n{MADE}\n{about}\n\n{body}"


def results_schema() -> dict[str, Any]:
    """Return the JSON Schema of what each command prints with --json."""
    kinds = {kind for each in PRINTED.values() for kind in each}
    schemas, definitions = _schemas(kinds, "serialization", "The results of commands, by command")
    commands = {}
    for name, printed in PRINTED.items():
        many = [{"type": "array", "items": schemas[kind]} if name in LISTS and kind is not Refused else schemas[kind]
                for kind in printed]  # fmt: skip
        commands[name] = many[0] if len(many) == 1 else {"anyOf": many}
    return {**definitions, "properties": commands}


def deployments_schema() -> dict[str, Any]:
    """Return the JSON Schema of each of the operator's files, by its path."""
    targets = (DockerEnvironment, KubernetesEnvironment)
    schemas, definitions = _schemas((*FILES.values(), *targets), "validation", "The operator's files, by path")
    files = {file: schemas[model] for file, model in FILES.items()}
    return {**definitions, "properties": {ENVIRONMENTS: {"anyOf": [schemas[each] for each in targets]}, **files}}


def evidence_schema() -> dict[str, Any]:
    """Return the JSON Schema of predicates, by type."""
    schemas, definitions = _schemas(PREDICATES.values(), "serialization", "Predicates by type; #cscm: ours in it")
    return {**definitions, "properties": {name: schemas[model] for name, model in PREDICATES.items()}}


def _schemas(
    models: Iterable[type[BaseModel]], mode: JsonSchemaMode, title: str
) -> tuple[dict[type[BaseModel], dict[str, Any]], dict[str, Any]]:
    """Return a reference to the schema of each model, and a schema with the definitions of all."""
    ordered = sorted(models, key=lambda each: each.__name__)
    references, definitions = models_json_schema([(each, mode) for each in ordered])
    by_model = {each: dict(references[each, mode]) for each in ordered}
    return by_model, {"$schema": GenerateJsonSchema.schema_dialect, "title": title, **definitions}


def pages() -> dict[Path, str]:
    """Return every generated page and schema, by its path below docs/."""
    texts = {
        "errors.md": errors_page(),
        "reference/declaration.md": declaration_page(),
        "reference/deployments.md": deployments_page(),
        "reference/blocks.md": blocks_page(),
        "reference/evidence.md": evidence_page(),
        "reference/commands.md": commands_page(),
        "reference/events.md": events_page(),
    }
    schemas = {
        "results.schema.json": results_schema(),
        "deployments.schema.json": deployments_schema(),
        "evidence.schema.json": evidence_schema(),
    }
    texts |= {name: json.dumps(schema, indent=1, ensure_ascii=False) for name, schema in schemas.items()}
    return {Path(name): text.rstrip() + "\n" for name, text in texts.items()}


def write() -> None:
    """Write the pages that changed, and print their names."""
    for name, text in pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote docs/{name}\n")


if __name__ == "__main__":
    write()
