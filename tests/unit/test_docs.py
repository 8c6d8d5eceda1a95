"""The documentation: generated pages match the code, examples are valid, and it is short."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import click
import pytest
import yaml
from click.testing import CliRunner
from mkdocs.exceptions import PluginError
from prefect.blocks.core import Block
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from blocks import register
from cscm import events
from cscm.check import check
from cscm.main import main
from cscm_laptop.profile import Profile
from scripts import diagrams, reference, reference_errors
from supply_chain import errors
from supply_chain.errors import SupplyChainError
from supply_chain.execution.environment import ENVIRONMENT_DOCUMENT, DockerEnvironment, KubernetesEnvironment
from supply_chain.model.declaration import DECLARATION
from supply_chain.model.documents import parse_document
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import PolicyDocument, RuleSeverity
from supply_chain.policy.loading import check_policy
from supply_chain.policy.names import NameRegister
from supply_chain.policy.people import PeopleDocument
from supply_chain.policy.waivers import WaiverDocument
from supply_chain.promotion.bridge import Message
from tests.support.policies import ENVIRONMENTS, POLICIES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[Any]:
    """Return every block of a kind in the documentation, with its page."""
    return [
        pytest.param(content, id=f"{page.relative_to(DOCS)}-{number}")
        for page in PAGES
        for number, (found, content) in enumerate(FENCE.findall(page.read_text(encoding="utf-8")), 1)
        if found == kind
    ]


def test_reference_pages_match_code() -> None:
    """`make docs` writes them again."""
    stale = [str(name) for name, text in reference.pages().items() if (DOCS / name).read_text() != text]

    assert stale == [], "run `make docs`, and commit what it wrote"


def test_documentation_has_at_most_25000_words() -> None:
    """Nothing is there twice, and nothing that the program says itself; the plan of what is left does not count.

    Borders of tables and other marks are no words.
    """
    counted = [*(page for page in PAGES if page.name != "progress.md"), *ROOT.glob("*.md")]
    words = {
        page: len(re.findall(r"\S*\w\S*", page.read_text(encoding="utf-8")))
        for page in counted
        if page.name != "CHANGELOG.md"
    }

    assert sum(words.values()) <= 25_000, sorted(words.values())[-5:]


def test_every_error_and_reason_code_is_documented() -> None:
    """The codes are found independently of the generator of the page."""
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z0-9]+(?:[.-][a-z0-9-]+)+)`", page))
    source = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("src/supply_chain/*/*.py"))
    given = re.findall(r"\bcode=f?\"([^\"]+)\"", source)
    rules = [
        rule.id
        for gate in Gate
        for rule in POLICIES.select_gate(gate).rules
        if rule.document.severity is RuleSeverity.DENY
    ]
    raised = [
        error.code
        for error in vars(errors).values()
        if inspect.isclass(error) and issubclass(error, errors.SupplyChainError)
    ]
    missing = [
        code
        for code in (*given, *rules, *raised)
        if code != SupplyChainError.code
        and not any(re.fullmatch(re.sub(r"\\{.*?\\}", "[a-z0-9-]+", re.escape(code)), each) for each in documented)
    ]

    assert len(given) > 20 and len(rules) > 60 and len(raised) > 25
    assert missing == []


def test_errors_page_has_no_names_of_functions() -> None:
    """An auditor reads values there, not the code that formats them; a person signs a break-glass."""
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.glob("src/supply_chain/**/*.py")]
    functions = {
        each.name.strip("_").replace("_", " ")
        for tree in modules
        for each in tree.body
        if isinstance(each, ast.FunctionDef)
    }
    values = set(re.findall(r"\*([^*\n]+ [^*\n]+)\*", page))

    assert "why it ended" in values and values & functions <= {"break glass"}
    assert "**" not in page


@pytest.mark.parametrize("severity", ["critical", "high", "medium", "low", "negligible", "unknown"])
@pytest.mark.parametrize("what", ["scan", "dependencies"])
def test_severity_code_is_documented_under_full_name(severity: str, what: str) -> None:
    """A reader searches for the code that a run printed, not for a pattern."""
    assert f"`{what}.{severity}`" in (DOCS / "errors.md").read_text(encoding="utf-8")


def test_every_error_class_documents_meaning_and_remedy() -> None:
    """The second paragraph is the remedy."""
    without_remedy = [
        error.__name__
        for error in reference_errors.every_error()
        if "\n\n" not in inspect.cleandoc(error.__doc__ or "")
    ]

    assert without_remedy == []


def test_every_documented_key_has_meaning() -> None:
    """A key without a meaning, or a link to the section that has it, cannot be used."""
    pages = "\n".join(text_of(name) for name in ("declaration", "deployments"))
    keys = re.findall(r"^- `.+", pages, re.MULTILINE)

    assert len(keys) > 70
    assert [key for key in keys if not re.fullmatch(r"- .*?(?:: \w.*|\]\(#\w+\)\??(?: \(required\))?)", key)] == []


def test_every_key_of_an_environment_is_documented() -> None:
    """Of each target: an operator of a cluster reads the same page."""
    page = text_of("deployments")
    keys = {key for model in (DockerEnvironment, KubernetesEnvironment) for key in model.model_fields}

    assert sorted(key for key in keys if f"- `{key}`" not in page) == []


def text_of(page: str) -> str:
    """Return a page of the reference."""
    return (DOCS / f"reference/{page}.md").read_text(encoding="utf-8")


def leaves(command: click.Command = main, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield each command that is no group, with its name."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            each = command.get_command(context, word)
            assert each is not None
            yield from leaves(each, f"{name} {word}".strip())
    else:
        yield name, command


def commands() -> Iterator[tuple[str, bool]]:
    """Yield each command and whether it has the option --json."""
    for name, command in leaves():
        yield name, any("--json" in each.opts for each in command.params)


def helped(command: click.Command = main, name: str = "cscm") -> Iterator[Any]:
    """Yield every command and group, with its name."""
    yield pytest.param(command, id=name)
    for word, each in getattr(command, "commands", {}).items():
        yield from helped(each, f"{name} {word}")


@pytest.mark.parametrize("command", list(helped()))
def test_help_of_command_has_verb_and_example(command: click.Command) -> None:
    """A reader starts from an example, and the reference page prints the same."""
    text, _, examples = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")

    assert re.match(r"[A-Z][a-z]+,? [^\n]+\.$", text.split("\n\n")[0].replace("\n", " "))
    assert [line for line in examples.splitlines() if re.match(r"  (?:[A-Z_]+=\S+ )?cscm ", line)]


def test_every_command_with_json_has_documented_shape() -> None:
    """Other commands have none."""
    assert {name for name, with_json in commands() if with_json} == set(reference.PRINTED)
    assert set(reference.LISTS) < set(reference.PRINTED)


def test_commands_without_json_are_listed() -> None:
    """The author of a script finds the exceptions there."""
    page = (DOCS / "how-to/command.md").read_text(encoding="utf-8")
    (exceptions,) = re.findall(r"Every command that has a result has it;(.*)", page)
    named = set(re.findall(r"`([^`-]+)`", exceptions.replace("registry-token", "registry_token")))

    assert {name.replace("-", "_") for name, with_json in commands() if not with_json} == named


def test_refusals_list_every_rule_with_its_gates() -> None:
    """An auditor reads there what each gate requires."""
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    parts = re.findall(r"^### (.+?): \S+\n(.+?)(?=^##)", page, re.MULTILINE | re.DOTALL)
    for gate in Gate:
        lines = (line for gates, part in parts if gate.value in gates.split(", ") for line in part.splitlines())
        listed = [line for line in lines if line]
        codes = [code for line in listed for code in re.findall(r"`([^`]+)`", line.partition(": ")[0])]
        rules = [rule for rule in POLICIES.select_gate(gate).rules if rule.document.severity is RuleSeverity.DENY]

        assert sorted(codes) == sorted(rule.id for rule in rules) and len(codes) > 20
        assert all(line.partition(": ")[2].startswith("Refuse ") for line in listed)


@pytest.mark.parametrize("name", ["results", "deployments", "evidence"])
def test_references_in_schemas_exist(name: str) -> None:
    """An editor would otherwise accept everything there."""
    text = (DOCS / f"{name}.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)

    assert set(re.findall(r'"#/\$defs/(\w+)"', text)) == set(schema["$defs"])
    assert len(schema["properties"]) > 8


@pytest.mark.parametrize("command", ["dead", "replay --all", "discard message-1 --yes"])
def test_dead_message_json_matches_documented_shape(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """The receipt of the queue is not printed."""
    messages = [Message(id="message-1", receipt="r", body="{}", reason="x")]
    dead = SimpleNamespace(all=lambda: tuple(messages), delete=messages.remove)
    queue = SimpleNamespace(send=lambda _: None)
    monkeypatch.setattr(events, "_settings", lambda: SimpleNamespace(dead_letters=lambda: dead, queue=lambda: queue))

    (printed,) = json.loads(CliRunner().invoke(main, ["events", *command.split(), "--json"]).stdout)

    schema = json.loads((DOCS / "results.schema.json").read_text(encoding="utf-8"))
    (shape,) = {schema["properties"][name]["items"]["$ref"] for name in ("events dead", "events replay")}
    assert printed.keys() == schema["$defs"][shape.rpartition("/")[2]]["properties"].keys()


def test_every_registered_block_type_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are those in Prefect's catalog."""
    registered: list[Any] = []
    monkeypatch.setattr(Block, "register_type_and_schema", classmethod(registered.append))
    monkeypatch.setattr(Block, "save", lambda *_, **__: None)
    register.register_types()

    titles = re.findall(r"^## (.+)$", (DOCS / "reference/blocks.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(titles) == sorted(kind.get_block_type_name() for kind in registered)


ENTRIES = re.findall(r"^## (.+)\n\n(.+)$", text_of("glossary"), re.MULTILINE)
TERMS = sorted((term for term, _ in ENTRIES), key=len, reverse=True)
"""The terms of the glossary, `deploy gate` before `gate`."""
PLAIN = {
    "active", "application", "approval", "base", "block", "chain", "check", "curation", "declaration", "deployment",
    "development", "environment", "evidence", "execution", "facts", "finding", "gate", "hold", "inventory", "laptop",
    "lifecycle", "offer", "policy", "probe", "promotion", "reason", "review", "rule", "scan", "service", "statement",
}  # fmt: skip
"""Terms that readers also understand without the glossary."""
NOT_PROSE = re.compile(
    r"^```.*?^```$|`[^`\n]+`|^#[^\n]*$|^    \S[^\n]*$|!?\[[^\]]*\]\((?!\S*glossary\.md)[^)]*\)|https?://\S+|<[^>]+>"
    r"|\* blocks?\b",
    re.MULTILINE | re.DOTALL,
)
"""Code, headings, links to other pages, and `*Workbench* block`."""
USE = re.compile(
    r"(?:\]\(\S*?glossary\.md#(?P<link>[\w-]+)\))|(?<![\w./-])(?:"
    + "|".join(rf"(?P<t{i}>{re.escape(term.removesuffix('y'))}(?:y|ies|e?s)?)" for i, term in enumerate(TERMS))
    + r")(?![\w/-]|\.\w)",
    re.IGNORECASE,
)
"""A term, singular or plural, or the link that ends behind it."""


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and the site make it."""
    return re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-"))


def uses(page: Path) -> dict[str, str | None]:
    """Return each term that the prose of a page uses, with the link to the glossary at its first use."""
    found = list(USE.finditer(NOT_PROSE.sub(" ", page.read_text(encoding="utf-8"))))
    links = [*(behind["link"] if behind.start() == use.end() else None for use, behind in pairwise(found)), None]
    terms = [
        (TERMS[int(str(use.lastgroup)[1:])], link) for use, link in zip(found, links, strict=True) if not use["link"]
    ]
    return dict(reversed(terms))


def test_glossary_has_each_term_once_in_one_sentence() -> None:
    """One concept has one word, and a heading to which pages link."""
    terms = [term for term, _ in ENTRIES]
    parts = text_of("glossary").rstrip().split("\n\n")[2:]

    assert parts == [part for term, text in ENTRIES for part in (f"## {term}", text)]
    assert len({anchor(term) for term in terms}) == len(terms) > 90
    assert terms == sorted(terms, key=str.lower)
    assert [text for _, text in ENTRIES if not re.fullmatch(r"[A-Z](?:(?!\. ).)+\.", text)] == []


def test_first_use_of_term_links_to_glossary() -> None:
    """On each page, except for a plain term: on the first page that uses it, in the order of reading."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = re.findall(r"(?:tutorial|how-to/|explanation/)[\w-]*\.md", navigation)
    used: set[str] = set()
    missing: list[str] = []
    for page in (ROOT / "README.md", *(DOCS / name for name in names)):
        terms = uses(page)
        needed = {term: link for term, link in terms.items() if term not in PLAIN & used}
        missing += [f"{page.name}: {term}" for term, link in needed.items() if link != anchor(term)]
        used |= terms.keys()

    assert len(names) > 30 and len(used - PLAIN) > 35
    assert missing == []


class Strict(BaseModel):
    """A part of a document of another program, with the keys that its examples use."""

    model_config = ConfigDict(extra="forbid")


class Hook(Strict):
    id: str


class HookRepository(Strict):
    repo: str
    rev: str
    hooks: list[Hook]


class HookConfiguration(Strict):
    repos: list[HookRepository]


class WorkflowStep(Strict):
    uses: str | None = Field(default=None, pattern=r"^[\w-]+/[\w/-]+@v\d+$")
    run: str | None = None
    with_: dict[str, str] = Field(default={}, alias="with")
    if_: str | None = Field(default=None, alias="if")
    directory: str | None = Field(default=None, alias="working-directory")


class Job(Strict):
    machine: str = Field(alias="runs-on")
    permissions: dict[str, Literal["read", "write"]]
    steps: list[WorkflowStep]


class Workflow(Strict):
    name: str
    on: list[Literal["push", "pull_request"]]
    jobs: dict[str, Job]


WRITTEN: dict[str, type[BaseModel] | TypeAdapter[Any]] = {
    "# a supply-chain.yaml": DECLARATION,
    "# a part of supply-chain.yaml": DECLARATION,
    "# an environment": ENVIRONMENT_DOCUMENT,
    "# deployments/environments/live.yaml": ENVIRONMENT_DOCUMENT,
    "# deployments/names.yaml": NameRegister,
    "# a profile": Profile,
    "# deployments/policies/ours.yaml": PolicyDocument,
    "# deployments/policies/holiday.yaml": PolicyDocument,
    "# deployments/people.yaml": PeopleDocument,
    "# deployments/waivers/django.yaml": WaiverDocument,
    "# .pre-commit-config.yaml": HookConfiguration,
    "# .github/workflows/check.yaml": Workflow,
}
SERVICE = "kind: service\nname: shop\nowner: sales\ntest: {command: [x]}\nprobe: {port: 8080}\n"


@pytest.mark.parametrize("content", blocks("yaml"))
def test_yaml_block_is_valid_document_of_its_kind(content: str) -> None:
    """The first line of the block names the kind."""
    claim = content.splitlines()[0]

    assert claim in WRITTEN
    text = SERVICE + content if "a part of" in claim else content
    document = parse_document(text, WRITTEN[claim], claim)
    assert document
    if isinstance(document, PolicyDocument):
        assert check_policy(document, ENVIRONMENTS), "its expressions fit the facts, and its own tests have passed"


def page_block(kind: str) -> Any:
    """Return the block of the page about `cscm check` with this first line, as an object."""
    found = FENCE.findall((DOCS / "how-to/check.md").read_text(encoding="utf-8"))
    (content,) = (text for _, text in found if text.startswith(f"# {kind}\n"))
    return yaml.safe_load(content)


def other_options(words: list[str]) -> set[str]:
    """Return the options among these words that `cscm check` does not have."""
    options = {option for each in check.params for option in each.opts}
    return {word for word in words if word.startswith("-")} - options


@pytest.mark.parametrize("tier", ["curation", "execution"])
def test_prefect_deployments_of_tier_are_in_table_of_machines(tier: str) -> None:
    """One that no machine of the tier runs would run with another tier's credentials, or not at all."""
    (row,) = re.findall(rf"^{tier} \| (.*)$", (DOCS / "how-to/aws.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"`([^`]+)`", row))
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    flows = [(each["entrypoint"].rpartition(":")[2].replace("_", "-"), each) for each in declared]
    of_tier = {(flow, f"{flow}/{each['name']}") for flow, each in flows if tier in each["tags"]}

    assert sorted(name for flow, name in of_tier if not named & {flow, name}) == []


def test_hook_runs_a_command_that_exists() -> None:
    """Other repositories name the hook by its id; pre-commit itself does not check what it runs."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, command = shlex.split(hook["entry"])
    words: list[str] = hook["args"]

    assert (program, command, hook["pass_filenames"], hook["language"]) == ("cscm", "check", False, "system")
    assert other_options(words) == set() and words == ["."]
    (repository,) = page_block(".pre-commit-config.yaml")["repos"]
    assert repository["hooks"] == [{"id": hook["id"]}]


def test_workflow_uploads_report_of_check() -> None:
    """Also if it refuses, and with the paths of the application's repository."""
    steps = page_block(".github/workflows/check.yaml")["jobs"]["check"]["steps"]
    (checked,) = (step for step in steps if "cscm check" in step.get("run", ""))
    words = shlex.split(checked["run"].partition("cscm check")[2])
    written = words[words.index("--output") + 1]
    upload = steps[-1]

    assert other_options(words) == set() and words[words.index("--format") + 1] == "sarif"
    assert upload["uses"].startswith("github/codeql-action/upload-sarif@") and upload["if"] == "always()"
    assert f"../{upload['with']['sarif_file']}" == written
    assert upload["with"]["checkout_path"] == checked["working-directory"] == steps[0]["with"]["path"]
    assert checked["run"].startswith(f"../{steps[1]['with']['path']}/.cscm/venv/bin/cscm ")


def called() -> list[Any]:
    """Return every call of `cscm` in a block of commands or in the text."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", "")
        lines = [line for kind, content in FENCE.findall(text) if kind == "sh" for line in content.splitlines()]
        lines += re.findall(r"^    (\S.*)", FENCE.sub("", text), re.MULTILINE)
        inline = re.findall(r"`(cscm [^`]+)`", FENCE.sub("", text))
        found |= dict.fromkeys(match[0] for line in lines if (match := re.search(r"\bcscm [a-z][^|;>)]*", line)))
        found |= dict.fromkeys(inline)
    return [pytest.param(shlex.split(each)[1:], id=each) for each in found]


@pytest.mark.parametrize("words", called())
def test_documented_command_exists_with_its_options(words: list[str]) -> None:
    """Its effects are tested elsewhere."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        named = command.get_command(click.Context(command), name)
        assert named is not None
        command = named
    options = {option for each in command.params for option in each.opts} | {"--help", "-h", "--version"}
    if any(each.type is click.UNPROCESSED for each in command.params):  # the options are another program's
        return

    assert {word for word in words if word.startswith("-")} <= options


REMOTE = re.compile(r"(?:https?:)?//[^\s\"'>]+")


def test_site_builds_strictly_and_loads_nothing_from_other_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead link fails the build, readers need no other host, and the theme draws each diagram."""
    from mkdocs.commands.build import build  # noqa: PLC0415 - takes a while to import
    from mkdocs.config import load_config  # noqa: PLC0415

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    hooks: Any = config.hooks
    monkeypatch.setattr(hooks["scripts/diagrams.py"], "read_script", lambda: b"mermaid")  # no download
    build(config)
    pages = [page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html")]
    scripts = [script.read_text(encoding="utf-8") for script in tmp_path.rglob("*.js")]
    fetched = [
        address
        for page in pages
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*", page)
        for address in re.findall(rf"(?:src|href)=[\"']?({REMOTE.pattern})", tag)
    ]

    assert len(pages) >= len(PAGES)
    assert fetched == []
    assert [each for script in scripts for each in re.findall(rf"[\"'](?={REMOTE.pattern}[\"'])[^\"']+", script)] == []
    assert sum(page.count('<pre class="mermaid">') for page in pages) == len(blocks("mermaid")) > 0
    assert sum('new URL("assets/javascripts/mermaid.min.js",__md_scope)' in script for script in scripts) == 1
    assert (tmp_path / "assets/javascripts/mermaid.min.js").read_bytes() == b"mermaid"
    assert config.theme["font"] is False


def test_bundle_with_unknown_addresses_fails_site() -> None:
    """A new version of the theme may load Mermaid from another address."""
    with pytest.raises(PluginError, match="does not contain"):
        diagrams.replace_sources('load("https://unpkg.com/mermaid@12/dist/mermaid.min.js")')


def test_altered_mermaid_package_fails_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers run the script; an altered one in the cache is as bad as one from the network."""
    monkeypatch.setattr(diagrams, "BUILD", tmp_path)
    (tmp_path / f"mermaid-{diagrams.VERSION}.tgz").write_bytes(b"altered")

    with pytest.raises(PluginError, match="checksum"):
        diagrams.read_script()


def test_tests_named_in_explanation_exist() -> None:
    """Each protection names the test that fails without it."""
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "explanation").glob("*.md"))
    named = set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py|tests/[\w/]+)`", text))
    places = (ROOT, ROOT / "tests", ROOT / "tests/integration/adversary")

    assert len(named) > 30
    assert {name for name in named if not any((place / name).exists() for place in places)} == set()


def test_site_navigation_has_every_page() -> None:
    """A page outside of the navigation cannot be found."""
    listed = re.findall(r"[\w./-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    assert {str(page.relative_to(DOCS)) for page in PAGES} - {"performance.md"} <= set(listed)
