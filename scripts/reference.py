"""Write the parts of the documentation that are made from the code; `make docs` runs it.

These are docs/errors.md, docs/reference/ and the table of rules in docs/explanation/gates.md. The text about a code,
a key, a command or an event is the docstring, description or message in the code; nothing is added.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import click
from pydantic import BaseModel, Field

import blocks
import tasks
from cscm.main import main
from cscm.running import EXIT
from cscm_laptop.doctor import Check as DoctorCheck
from cscm_laptop.laptop import Part
from cscm_laptop.profile import Profile
from orchestration.registration.automations import Automation
from orchestration.registration.views import Views
from scripts.reference_source import Source, documented, fields, table
from supply_chain import errors
from supply_chain.errors import SupplyChainError
from supply_chain.evidence import checks, statement
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.checks import CheckResult
from supply_chain.evidence.encryption import EncryptionRecord
from supply_chain.evidence.image_status import LifecycleDecision
from supply_chain.evidence.soak import Soak
from supply_chain.execution import host, monitor
from supply_chain.execution.deploy import Deployment
from supply_chain.execution.environment import Environment
from supply_chain.execution.monitor import Observation
from supply_chain.execution.records import DeploymentRecord
from supply_chain.fleet.explain import Explanation
from supply_chain.fleet.exposure import Rescanned
from supply_chain.fleet.known import KnownImage
from supply_chain.fleet.reconcile import Reconciled
from supply_chain.fleet.where import Place
from supply_chain.lifecycle.apply import Applied
from supply_chain.lifecycle.decisions import DecisionResult
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.rules import Examples, Rules
from supply_chain.model.image import Candidate, CuratedImage, ImageRef
from supply_chain.model.manifest import FILE, MANIFEST
from supply_chain.model.tier import Gate
from supply_chain.policy import rules
from supply_chain.policy.names import NameRegister
from supply_chain.policy.outcome import Refused
from supply_chain.policy.policies import POLICIES
from supply_chain.promotion.bridge import Message
from supply_chain.vulnerability.findings import Report

DOCS = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by `make docs` from the code. Change it there. -->\n"
RULES, END = "<!-- Made by `make docs` from the rules. Change them there. -->\n\n", "\n<!-- To here. -->\n"
"""Comments around the part of a page that is made from the code, if a person wrote the rest."""


def errors_page() -> str:
    """Return docs/errors.md: every error, refusal and deviation."""
    return "\n".join(
        [
            "# Errors, refusals and deviations",
            MADE,
            "Every code is stable: it keeps its meaning, and none is used again for something else.",
            "",
            "- An *error* means that no answer could be had. Nothing was admitted. `cscm` prints it as "
            "`error: … [code]` and ends with status 1; in Prefect the run is Failed.",
            "- A *refusal* is an answer: a gate said no, with every reason. `cscm` ends with status 3; in Prefect the "
            "run is Completed under the name Refused.",
            "- A *deviation* is what `cscm monitor` finds: something runs that is not what should. In Prefect the run "
            "is Completed under the name Drifted; `cscm monitor` ends with status 0.",
            "",
            "What stands in *italics* is filled in.",
            "",
            "## Errors",
            "",
            "*Tried again* means that a step which meets the error repeats itself up to three times, with growing "
            "pauses. A build is never repeated.",
            "",
            *_errors(),
            "## Refusals",
            "",
            "One rule gives each reason. It holds at the gates that stand behind its name.",
            "",
            *_refusals(),
            "## Checks",
            "",
            "What the checks look at, whose codes are above. Of each, development signs the result.",
            "",
            table(["check", "what it looks at"], [[f"`{name}`", said] for name, said in documented(checks, "Check")]),
            "## Deviations",
            "",
            table(
                ["code", "what it says", "what to do"],
                [
                    [f"`{g.code}`", g.fact, g.remedy]
                    for module in (monitor, host)
                    for g in Source(module, "Deviation").all()
                ],
            ),
        ]
    )


def every_error() -> list[type[SupplyChainError]]:
    """Return all errors of errors.py except their base class, sorted by code."""
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, SupplyChainError)]
    return sorted((each for each in found if each is not SupplyChainError), key=lambda each: each.code)


def _errors() -> Iterator[str]:
    for error in every_error():
        cause, _, remedy = inspect.cleandoc(error.__doc__ or "").partition("\n\n")
        again = "Tried again." if error.retryable else "Not tried again."
        yield f"### `{error.code}`\n\n{cause}\n\n**What to do:** {' '.join(remedy.split())}\n\nStatus 1. {again}\n"


def _gates() -> dict[str, list[Gate]]:
    """Return the gates at which each rule holds, by the name of the rule; rules of the first gate come first."""
    gates: dict[str, list[Gate]] = {}
    for gate, policy in POLICIES.items():
        for rule in policy.rules:
            gates.setdefault(rule.__name__, []).append(gate)
    return gates


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("Sbom", "SBOM")


def _refusals() -> Iterator[str]:
    source = Source(rules, "Reason")
    for name, where in _gates().items():
        meaning = inspect.cleandoc(getattr(rules, name).__doc__)
        yield f"### {_words(name)} ({', '.join(where)})\n\n{meaning}\n"
        rows = [[f"`{g.code}`", g.fact, g.remedy] for g in source.given(name, {})]
        yield table(["code", "what it says", "what would satisfy it"], rows)


def gates_page() -> str:
    """Return docs/explanation/gates.md: the text that a person wrote, with the rules between two comments."""
    before, rest = (DOCS / "explanation/gates.md").read_text(encoding="utf-8").split(RULES)
    _, after = rest.split(END)
    rows = [
        [_words(name), inspect.cleandoc(getattr(rules, name).__doc__).split("\n\n")[0]]
        + ["yes" if gate in where else "" for gate in POLICIES]
        for name, where in _gates().items()
    ]
    return (
        before
        + RULES
        + table(["rule", "what it says", "intake gate", "release gate", "deploy gate"], rows)
        + END
        + after
    )


def declaration_page() -> str:
    """Return docs/reference/declaration.md."""
    return _page(
        FILE,
        "What a team declares about its application, beside its Dockerfile. The document is one of `Service` and "
        "`Base`, by its `kind`. It is read strictly: unknown keys, keys written twice, YAML's tags and aliases, and "
        "more than 256 KiB are errors (`declaration.invalid`) with line and column. Editors complete it from "
        "[its JSON Schema](../supply-chain.schema.json), which `cscm schema` prints.",
        fields([MANIFEST]),
    )


def deployments_page() -> str:
    """Return docs/reference/deployments.md."""
    return _page(
        "Files of the operator",
        "What an operator writes under `deployments/`. All of it is read as strictly as a declaration.",
        f"## An environment\n\n`deployments/environments/NAME.yaml`\n\n{fields([Environment], 3)}\n"
        f"## The register of names\n\n`deployments/names.yaml`\n\n{fields([NameRegister], 3)}\n"
        f"## Rules of the lifecycle\n\n`deployments/lifecycle/NAME.yaml`\n\n{fields([Rules], 3)}\n"
        f"## Tests of the rules\n\n`deployments/lifecycle/NAME.tests.yaml`\n\n{fields([Examples], 3)}\n"
        "## The laptop's profile\n\n`deployments/profiles/laptop.yaml`, or the file that `CSCM_PROFILE` names\n\n"
        f"{fields([Profile], 3)}\n"
        f"## An automation\n\n`deployments/automations/NAME.yaml`\n\n{fields([Automation], 3)}\n"
        f"## Views of the runs\n\n`deployments/views.yaml`\n\n{fields([Views], 3)}",
    )


DOCUMENTS = {
    "Tier": "`development`, `curation`, `execution` and `lifecycle`",
    "Bridge": "`bridge`",
    "ContainerHost": "`laptop`, and whatever an environment names as its `host`",
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
        properties = block.model_json_schema()["properties"]
        rows = [[f"`{key}`", each.get("title", ""), each.get("description", "")] for key, each in properties.items()]
        parts.append(
            f"## {block._block_type_name}\n\n{block._description}\n\nDocuments of this type: {DOCUMENTS[kind]}.\n"
            + ("\n" + table(["field", "in the form", "meaning"], rows) if rows else "")
        )
    return _page(
        "Blocks",
        "What an operator configures in Prefect. `cscm up` fills them on a laptop; "
        "[on AWS](../how-to/aws.md) an operator does.",
        "\n".join(parts),
    )


# --- commands -----------------------------------------------------------------------------------------


class DeadMessage(Message):
    """A message in the dead-letter queue, with the reason why it could not be read."""

    receipt: str = Field(exclude=True)


PRINTED: dict[str, list[type[BaseModel]]] = {
    "chain": [Deployment, CuratedImage, Refused],
    "develop": [Candidate],
    "curate": [CuratedImage, Refused],
    "execute": [Deployment, Refused],
    "approve": [Approval],
    "monitor": [Observation],
    "images": [KnownImage],
    "where": [Place],
    "explain": [Explanation],
    "inventory": [Reconciled],
    "block": [DecisionResult],
    "unblock": [DecisionResult],
    "hold": [DecisionResult],
    "release": [DecisionResult],
    "lifecycle plan": [Plan],
    "lifecycle apply": [Applied],
    "rescan": [Rescanned],
    "bases": [ImageRef, Refused],
    "status": [Part],
    "doctor": [DoctorCheck],
    "events dead": [DeadMessage],
    "events replay": [DeadMessage],
    "events discard": [DeadMessage],
}
"""What each command prints with --json; the commands in `LISTS` print a list, unless the result is a refusal."""
LISTS = (
    "monitor",
    "images",
    "where",
    "explain",
    "inventory",
    "bases",
    "status",
    "doctor",
    "events dead",
    "events replay",
    "events discard",
)


def commands_page() -> str:
    """Return docs/reference/commands.md."""
    rows = [[f"`{name}`", " or ".join(_shape(name, each) for each in kinds)] for name, kinds in PRINTED.items()]
    shapes = {each: None for kinds in PRINTED.values() for each in kinds}
    return _page(
        "The command `cscm`",
        "`cscm` is in `.cscm/venv/bin`. It runs from inside of the project's directory, or finds the project it is "
        "installed from.",
        "## Exit status\n\n"
        + table(["status", "meaning"], [[str(status), said] for status, said in EXIT.items()])
        + "\n## Output\n\nA command's result is on standard output, the steps and errors on standard error. The "
        "progress of `up`, `down` and `reset` is on standard output. With `--json` it is one JSON value:\n\n"
        + table(["command", "prints"], rows)
        + "\nKeys are added in later versions, never taken away or given another meaning. A refusal has `reasons`, "
        "and the status says the same.\n\n"
        + "\n".join(_help(main, "cscm"))
        + "\n## Shapes\n\n"
        + fields(shapes, 3, written=False),
    )


def _shape(command: str, kind: type[BaseModel]) -> str:
    return f"a list of `{kind.__name__}`" if command in LISTS and kind is not Refused else f"`{kind.__name__}`"


def _help(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    context = command.context_class(
        command, parent, info_name=name, **{**command.context_settings, "terminal_width": 100}
    )
    yield f"## `{context.command_path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for each in sorted(command.commands):
            yield from _help(command.commands[each], each, context)


# --- evidence and events ------------------------------------------------------------------------------


def evidence_page() -> str:
    """Return docs/reference/evidence.md."""
    rows = [[f"`{value}`", said] for value, said in documented(statement) if value.startswith(("https://", "urn:"))]
    return _page(
        "Evidence",
        "Each statement is an in-toto statement v1 in a sigstore bundle (`" + statement.BUNDLE + "`), signed with the "
        "tier's KMS key and attached to the image as an OCI 1.1 referrer. Where it lies says "
        "[the explanation](../explanation/evidence.md).",
        "## Predicates\n\n"
        + table(["predicate type", "what it says, and who signs it"], rows)
        + "\n## What is in them\n\nOf standard predicates, the standard's fields and our typed form below `cscm`; of "
        "our own, these fields.\n\n"
        + fields(
            [CheckResult, Report, EncryptionRecord, DeploymentRecord, Soak, Approval, LifecycleDecision],
            3,
            written=False,
        ),
    )


def events_page() -> str:
    """Return docs/reference/events.md."""
    rows = [[f"`{name}`", said, ", ".join(f"`{key}`" for key in payload)] for name, said, payload in sorted(_events())]
    return _page(
        "Events",
        "What the flows tell Prefect, for automations to act on. The resource is `cscm.image.<digest>`, with "
        "`cscm.repository`, `cscm.application` and `cscm.origin`; the application and, where it is known, the revision "
        "are related resources. Every payload has `image` and `origin`: `chain` where a whole chain runs, `tier` where "
        "a tier runs alone. A step that was [proven before](../explanation/proven-once.md) emits nothing, but for "
        "deploy, which confirms.",
        table(["event", "emitted by", "payload besides"], rows)
        + "\n`cscm.source.pushed` comes from the git hook that `cscm hook install` writes. Its resource is "
        "`cscm.revision.<revision>`, its payload has `path` and `revision`, `ref`, the branch or tag that was "
        "pushed, and `pushed`, when. Of pushes to one `ref` the last is built; without `ref` each is.\n\n"
        "`cscm.image.pushed` comes from the bridge (`cscm bridge`), for the newest image that was pushed to a "
        "repository `dev/*`. Its payload has `image`, `repository`, `digest` and `tag` besides `origin`. The same push "
        "is the same event, however often its message comes.\n\n"
        "`cscm.pushes.waiting` comes from the bridge, where pushes of more applications wait than it announces one by "
        "one: `reconcile/on-pushes` looks at all of them. Its resource is `cscm.bridge`, its payload has "
        "`applications` and `pushes`, how many.\n\n"
        "`cscm.database.updated` comes from `cscm up`, where it put another vulnerability database in its place. Its "
        "resource is `cscm.database.<digest>`, its payload has `kind`, `built` and `digest`.\n\n"
        "`cscm.rescan.signed` comes from a rescan that signed reports, after the last of them: what is known of images "
        "by their findings is read again then. Its resource is `cscm.rescan`, its payload has `reports`, how many.\n\n"
        "`cscm.advisory.published` is for whoever follows advisories to post: resource `cscm.advisory.<its name>`, "
        "payload `packages`, a list of names, of `name@version`, or of package URLs. It starts a rescan of the images "
        "that carry one of them; without `packages`, of all.\n",
    )


def _events() -> Iterator[tuple[str, str, list[str]]]:
    for file in sorted(Path(tasks.__path__[0]).glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        module = (ast.get_docstring(tree) or "").split("\n")[0]
        for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
            if not isinstance(call.func, ast.Name) or call.func.id != "emit":
                continue
            payload = [name for word in call.keywords for name in _named(word)]
            for name in (each for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant)):
                yield f"cscm.{name.value!s}", module, payload


def _named(word: ast.keyword) -> list[str]:
    """Return the name of a keyword argument, or the keys of the dictionary that `**` unpacks."""
    if word.arg:
        return [word.arg]
    return [str(key.value) for key in getattr(word.value, "keys", ()) if isinstance(key, ast.Constant)]


def _page(title: str, about: str, body: str) -> str:
    return f"# {title}\n\n{MADE}\n{about}\n\n{body}"


def pages() -> dict[Path, str]:
    """Return every generated page, by its path below docs/."""
    made = {
        "errors.md": errors_page(),
        "reference/declaration.md": declaration_page(),
        "reference/deployments.md": deployments_page(),
        "reference/blocks.md": blocks_page(),
        "reference/commands.md": commands_page(),
        "reference/evidence.md": evidence_page(),
        "reference/events.md": events_page(),
        "explanation/gates.md": gates_page(),
    }
    return {Path(name): dedent(text).rstrip() + "\n" for name, text in made.items()}


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
