"""Write the parts of the documentation that are made from the code; `make docs` runs it.

These are docs/errors.md and most of docs/reference/. The text about a code, a key, a command or an event is the
docstring, description or message in the code; nothing is added.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections import Counter
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
from scripts.reference_models import Links, fields, flat_list, link, rows, table, written
from scripts.reference_source import Given, Source, documented
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
from supply_chain.policy import rules as policy_rules
from supply_chain.policy.names import NameRegister
from supply_chain.policy.outcome import Refused
from supply_chain.promotion.bridge import Message
from supply_chain.vulnerability.findings import Report

DOCS = Path(__file__).parents[1] / "docs"
MADE = "<!-- Made by `make docs` from the code. Change it there. -->\n"


def errors_page() -> str:
    """Return docs/errors.md: every error, refusal and deviation."""
    retried = ", ".join(f"`{error.code}`" for error in every_error() if error.retryable)
    return "\n".join(
        [
            "# Errors, refusals and deviations",
            MADE,
            "A code never changes its meaning. *Italics* stand for values.",
            "",
            "- An *error* means that there is no answer, and that nothing was admitted. `cscm` prints "
            "`error: … [code]` and ends with status 1; the run is Failed.",
            "- A *refusal* is the answer of a gate, with every reason. `cscm` ends with status 3; the run is "
            "Completed, with the name Refused.",
            "- A *deviation* is a difference between what runs and what should run. `cscm monitor` ends with "
            "status 0; the run is Completed, with the name Drifted.",
            "",
            "## Errors",
            "",
            f"A step that meets one of these errors repeats itself up to three times, with growing pauses: {retried}. "
            "A build is never repeated.",
            "",
            table(["code", "what failed", "what to do"], _errors()),
            "## Refusals",
            "",
            "Each rule of a gate has the codes below it. In brackets are its gates.",
            "",
            *_refusals(),
            "## Checks",
            "",
            "Development signs the result of each check:",
            "",
            *(f"- `{name}`: {text}" for name, text in documented(checks, "Check")),
            "",
            "## Deviations",
            "",
            *_deviations(),
        ]
    )


def every_error() -> list[type[SupplyChainError]]:
    """Return all errors of errors.py except their base class, sorted by code."""
    found = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, SupplyChainError)]
    return sorted((each for each in found if each is not SupplyChainError), key=lambda each: each.code)


def _errors() -> Iterator[list[str]]:
    for error in every_error():
        cause, _, remedy = inspect.cleandoc(error.__doc__ or "").partition("\n\n")
        yield [f"`{error.code}`", cause, remedy]


def _gates() -> dict[str, list[Gate]]:
    """Return the gates at which each rule holds, by the name of the rule; rules of the first gate come first."""
    gates: dict[str, list[Gate]] = {}
    for gate, policy in policy_rules.POLICIES.items():
        for rule in policy.rules:
            gates.setdefault(rule.__name__, []).append(gate)
    return gates


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize().replace("Sbom", "SBOM")


def _refusals() -> Iterator[str]:
    source = Source(policy_rules, "Reason")
    for name, where in _gates().items():
        yield f"### {_words(name)} ({', '.join(where)})\n\n{' '.join(getattr(policy_rules, name).__doc__.split())}\n"
        yield from (f"- {_codes(each)}: {each.fact}. **Remedy:** {each.remedy}." for each in source.given(name, {}))
        yield ""


def _deviations() -> Iterator[str]:
    """Yield each remedy, with the deviations that it is for."""
    remedies: dict[str, list[Given]] = {}
    for each in (each for module in (monitor, host) for each in Source(module, "Deviation").all()):
        remedies.setdefault(each.remedy, []).append(each)
    for remedy, found in remedies.items():
        yield f"**{remedy}**\n"
        yield from (f"- {_codes(each)}: {each.fact}" for each in found)
        yield ""


def _codes(given: Given) -> str:
    return ", ".join(f"`{code}`" for code in given.codes)


VALUES = "`[]` is a list, `?` means that the value can be `null`."
"""The notation of values in all tables."""


def declaration_page() -> str:
    """Return docs/reference/declaration.md."""
    models = {schema["title"]: (schema, rows(schema, definitions)) for schema, definitions in written(MANIFEST)}
    (_, of_service), (_, of_base) = models.pop("Service"), models.pop("Base")
    return _page(
        FILE,
        "A team declares its application in this document next to the Dockerfile. `kind` is `service`, which runs, or "
        "`base`, on which other images are built. Unknown or repeated keys, YAML tags and aliases, and more than "
        "256 KiB are errors (`declaration.invalid`) with line and column. Editors complete the document from "
        f"[its JSON Schema](../supply-chain.schema.json), which `cscm schema` prints. {VALUES}",
        "\n".join(
            f"## {title}\n\n{about}{table(['key', 'value', 'default', 'meaning'], found)}"
            for title, about, found in (
                ("Both kinds", "", [row for row in of_service if row in of_base]),
                ("Service", "", [row for row in of_service if row not in of_base]),
                ("Base", "", [row for row in of_base if row not in of_service]),
                *((title, f"{schema['description']}\n\n", found) for title, (schema, found) in models.items()),
            )
        ),
    )


def deployments_page() -> str:
    """Return docs/reference/deployments.md."""
    files: list[tuple[str, str, type[BaseModel]]] = [
        ("Environment", "environments/NAME.yaml", Environment),
        ("Name register", "names.yaml", NameRegister),
        ("Rules of the lifecycle", "lifecycle/NAME.yaml", Rules),
        ("Tests of the rules", "lifecycle/NAME.tests.yaml", Examples),
        ("The laptop's profile", "profiles/laptop.yaml", Profile),
        ("An automation", "automations/NAME.yaml", Automation),
        ("Views of the runs", "views.yaml", Views),
    ]
    return _page(
        "Files of the operator",
        "These files are in `deployments/`, and are read as strictly as a declaration. `CSCM_PROFILE` can name another "
        f"profile. {VALUES} Brackets have the default, unless it is null, false or empty. A key without a type is "
        "text. A key after a dot belongs to the object, list or map before it.",
        "\n".join(f"## {title}\n\n`{file}`\n\n{flat_list(model)}" for title, file, model in files),
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
        fields = [f"- `{key}`{_title(key, each['title'])}: {each['description']}" for key, each in properties.items()]
        parts.append(
            f"## {block._block_type_name}\n\n{block._description} Its documents: {DOCUMENTS[kind]}.\n\n"
            + "".join(f"{line}\n" for line in fields)
        )
    return _page(
        "Blocks",
        "An operator configures these in Prefect; `cscm up` fills them on a laptop ([AWS](../how-to/aws.md)). In "
        "brackets is a field's name in Prefect's form, if it differs.",
        "\n".join(parts),
    )


def _title(key: str, title: str) -> str:
    """Return the name of a field in the form, unless it is that of the key."""
    return "" if title.lower() == key.replace("_", " ") else f" ({title})"


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


def commands_page(links: Links) -> str:
    """Return docs/reference/commands.md; the sections of results that `links` does not have are added to it."""
    shapes = {each: None for kinds in PRINTED.values() for each in kinds}
    results = fields(shapes, links, "commands.md")
    found = list(_commands(main, "cscm"))
    shared = _shared(found)
    return _page(
        "The command `cscm`",
        "`cscm` is in `.cscm/venv/bin`. It works in the project's directory, or finds the project that it is installed "
        "from. `--help` prints what is here.",
        "## Exit status\n\n"
        + "".join(f"- {status}: {meaning}\n" for status, meaning in EXIT.items())
        + "\n## Output\n\nThe result is on standard output, steps and errors are on standard error. The progress of "
        "`up`, `down` and `reset` is on standard output. Every command with a result has `--json`, which prints it as "
        "one JSON value of the [type](#results) that is given here. Later versions may add keys, but do not remove or "
        "change any.\n\n"
        "## Common options and arguments\n\n"
        + "".join(f"- {line}\n" for line in shared)
        + "\n## Commands\n\n"
        + "\n".join(_command(context, shared, links) for context in found)
        + f"\n## Results\n\nA key without a type is text. {VALUES}\n\n"
        + results,
    )


def _commands(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield every command that does something, in the order of their names."""
    context = command.context_class(command, parent, info_name=name, **command.context_settings)
    if not isinstance(command, click.Group):
        yield context
    else:
        for each in sorted(command.commands):
            yield from _commands(command.commands[each], each, context)


def _paragraphs(context: click.Context) -> tuple[list[str], str]:
    """Return the paragraphs of a command's help, and its examples."""
    text, _, examples = inspect.cleandoc(context.command.help or "").partition("\b\nExample:\n")
    return [" ".join(each.split()) for each in text.strip().split("\n\n")], dedent(examples).strip()


def _options(context: click.Context) -> list[str]:
    """Return the description of each option, except --help."""
    return [
        f"`{_option(each, context)}`: {each.help}" for each in context.command.params if isinstance(each, click.Option)
    ]


def _option(option: click.Option, context: click.Context) -> str:
    return option.opts[-1] + ("" if option.is_flag else f" {option.make_metavar(context)}")


def _shared(found: list[click.Context]) -> list[str]:
    """Return the descriptions of options and arguments that at least three commands have."""
    lines = Counter(line for context in found for line in (*_options(context), *_paragraphs(context)[0][1:]))
    return sorted(line for line, count in lines.items() if count > 2)


def _command(context: click.Context, shared: list[str], links: Links) -> str:
    """Return the section of a command: what it does, its call, an example, its own options and its result."""
    name = context.command_path.removeprefix("cscm ")
    (about, *more), examples = _paragraphs(context)
    call = [context.command_path]
    for each in (param for param in context.command.params if param.name != "as_json"):
        word = _option(each, context) if isinstance(each, click.Option) else each.make_metavar(context)
        call.append(word if each.required or word.startswith("[") else f"[{word}]")
    kinds = [link(each, links).replace("commands.md#", "#") for each in PRINTED.get(name, [])]
    result = [f"Result: {'list of ' * (name in LISTS)}{' or '.join(kinds)}."] if kinds else []
    text = " ".join([about, *(each for each in more if each not in shared), *result])
    options = "".join(f"- {each}\n" for each in _options(context) if each not in shared)
    options += "\n" * bool(options)
    example = "" if " ".join(call).partition(" [")[0] == examples else f"```sh\n{examples}\n```\n"
    return f"### {name}\n\n`{' '.join(call)}`\n\n{text}\n\n{options}{example}"


# --- evidence and events ------------------------------------------------------------------------------


def evidence_page(links: Links) -> str:
    """Return docs/reference/evidence.md; its sections are added to `links`."""
    types = [
        f"- `{value}`: {text}\n" for value, text in documented(statement) if value.startswith(("https://", "urn:"))
    ]
    return _page(
        "Evidence",
        "Each statement is an in-toto statement v1 in a sigstore bundle (`"
        + statement.BUNDLE
        + "`). The tier's KMS key "
        "signs it, and it is attached to the image as an OCI 1.1 referrer ([explanation](../explanation/evidence.md)).",
        "## Predicates\n\n"
        + "".join(types)
        + "\n## Fields\n\nStandard predicates have the standard's fields, and ours in `cscm`. A key without a type is "
        f"text. {VALUES}\n\n"
        + fields(
            [CheckResult, Report, EncryptionRecord, DeploymentRecord, Soak, Approval, LifecycleDecision],
            links,
            "evidence.md",
        ),
    )


OTHER_EVENTS = """\
These events are not about one step:

- `cscm.source.pushed` comes from the git hook of `cscm hook install`. Resource `cscm.revision.<revision>`; payload
  `path`, `revision`, `ref` (the pushed branch or tag), `pushed` (when). Of the pushes to one `ref`, only the last is
  built; without `ref`, each is.
- `cscm.image.pushed` comes from the bridge, for the newest image pushed to a repository `dev/*`. Payload `image`,
  `repository`, `digest`, `tag`, `origin`. One push is one event, even if its message comes twice.
- `cscm.pushes.waiting` comes from the bridge if more applications wait than it announces one by one;
  `reconcile/on-pushes` promotes them all. Resource `cscm.bridge`; payload `applications` and `pushes` (numbers).
- `cscm.database.updated` comes from `cscm up` if it replaced the vulnerability database. Resource
  `cscm.database.<digest>`; payload `kind`, `built`, `digest`.
- `cscm.rescan.signed` comes from a rescan after the last report that it signed; the inventory is then refreshed.
  Resource `cscm.rescan`; payload `reports` (number).
- `cscm.advisory.published` is for programs that follow advisories to post. Resource `cscm.advisory.<name>`; payload
  `packages`: names, `name@version` or package URLs. It starts a rescan of the images that contain one of them, and
  without `packages` of all images.
"""


def events_page() -> str:
    """Return docs/reference/events.md."""
    found = [
        [f"`{name}`", f"`{task}`", ", ".join(f"`{key}`" for key in keys)] for name, task, keys in sorted(_events())
    ]
    return _page(
        "Events",
        "The flows emit these events, for automations to act on. The resource is `cscm.image.<digest>`, with "
        "`cscm.repository`, `cscm.application` and `cscm.origin`. The application and, if it is known, the revision "
        "are related resources. Every payload has `image` and `origin`, which is `chain` in a chain and `tier` if a "
        "tier runs alone. A step that was [proven before](../explanation/proven-once.md) emits nothing, except "
        "`deploy`, which confirms the deployment.",
        table(["event", "task", "further payload"], found) + "\n" + OTHER_EVENTS,
    )


def _events() -> Iterator[tuple[str, str, list[str]]]:
    for file in sorted(Path(tasks.__path__[0]).glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
            if not isinstance(call.func, ast.Name) or call.func.id != "emit":
                continue
            payload = [name for word in call.keywords for name in _named(word)]
            for name in (each for each in ast.walk(call.args[0]) if isinstance(each, ast.Constant)):
                yield f"cscm.{name.value!s}", file.stem, payload


def _named(word: ast.keyword) -> list[str]:
    """Return the name of a keyword argument, or the keys of the dictionary that `**` unpacks."""
    if word.arg:
        return [word.arg]
    return [str(key.value) for key in getattr(word.value, "keys", ()) if isinstance(key, ast.Constant)]


def _page(title: str, about: str, body: str) -> str:
    return f"# {title}\n\n{MADE}\n{about}\n\n{body}"


def pages() -> dict[Path, str]:
    """Return every generated page, by its path below docs/."""
    links: Links = {}
    made = {
        "errors.md": errors_page(),
        "reference/declaration.md": declaration_page(),
        "reference/deployments.md": deployments_page(),
        "reference/blocks.md": blocks_page(),
        "reference/evidence.md": evidence_page(links),
        "reference/commands.md": commands_page(links),  # links to the sections of the page above
        "reference/events.md": events_page(),
    }
    return {Path(name): text.rstrip() + "\n" for name, text in made.items()}


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
