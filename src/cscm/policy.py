"""Commands `cscm policy`: check, list and preview the policies of the gates, and explain a decision."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click
from pydantic import Field

from cscm.options import Image, as_json, environments
from cscm.running import print_result, run, run_flow, verbose
from cscm.session import load_block
from cscm.signing import key_option, sign_content, write_readable
from cscm.waiver_scopes import check_scopes
from orchestration.project import find_project
from supply_chain.errors import ComponentFailed, SettingInvalid
from supply_chain.execution.signed_project import ProjectState, read_signable
from supply_chain.model.documents import decode_document, read_content
from supply_chain.model.image import Model
from supply_chain.model.tier import Gate
from supply_chain.policy.activation import LISTING, list_next
from supply_chain.policy.documents import PolicyDocument
from supply_chain.policy.loading import (
    DIRECTORY,
    read_project_policies,
    read_proposed_policies,
)
from supply_chain.policy.policies import Policies
from supply_chain.policy.rule_tests import find_unnoticed, refuses_nothing_tested
from supply_chain.policy.signed_documents import SUFFIX, DocumentKind
from supply_chain.reports import facts_page, policy_page, policy_preview_page
from supply_chain.text import pluralize, sanitize_lines, sanitize_text


class CheckedPolicy(Model):
    """A policy that can decide."""

    gate: Gate
    policy: str = Field(description="its name")
    version: int
    rules: int = Field(description="number of rules")
    tests: int = Field(description="number of tests of rules, which all passed")
    untested_expressions: tuple[str, ...] = Field(
        description="expressions with one change that no test of their rule notices"
    )

    rules_without_failing_test: tuple[str, ...] = Field(
        default=(), description="rules without a test that fails with your parameters; they may refuse nothing"
    )

    def __str__(self) -> str:
        rules, tests = pluralize(self.rules, "rule"), pluralize(self.tests, "test")
        lines = [f"{self.gate:<8} {self.policy} {self.version}: {rules}, {tests} passed"]
        idle = (
            f"    note: with your parameters, {each} may refuse nothing: no test of it fails"
            for each in self.rules_without_failing_test
        )
        return "\n".join([*lines, *(f"    note: no test notices {each}" for each in self.untested_expressions), *idle])


class PolicyCheck(Model):
    """The policies of a directory, and whether the gates decide by them."""

    policies: tuple[CheckedPolicy, ...]
    active: bool | None = Field(description="whether the gates decide by them; null: not known, or another directory")
    why: str = Field(description="who signed them and when, or why they are not active; empty: another directory")
    inactive: tuple[str, ...] = Field(default=(), description="what does not decide and why, such as an environment")
    unmatched: tuple[str, ...] = Field(default=(), description="waivers that are invalid or name what no image has")
    unchecked: str = Field(
        default="", description="why it is not known whether the applications of the waivers exist; empty: it is"
    )

    def __str__(self) -> str:
        state = {True: "active", None: "not known whether active"}
        active = [] if self.active is False or not self.why else [f"{state[self.active]}: {self.why}"]
        notes = [f"note: the waiver {each}" for each in self.unmatched]
        notes += [f"note: of the waivers, {self.unchecked}"] if self.unchecked else []
        return "\n".join(
            [*map(str, self.policies), *notes, *active, *(f"not active, so {each}" for each in self.inactive)]
        )


directory = click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group()
def policy() -> None:
    """Check, list and preview the policies of the gates, and explain a decision.

    \b
    Example:
      cscm policy check
      cscm policy explain 3fb1a90c7d2e --environment production
    """


@policy.command()
@directory
@as_json
def check(directory: Path | None, as_json: bool) -> None:
    """Check the policies in DIRECTORY (deployments/policies): types, cost, selectors and the tests of all rules.

    It names what the tests of a rule leave open, a change of its expression that none of them notices, and then exits
    with 1. Without DIRECTORY, it also names waivers that cover no image, and says whether the project's policies,
    environments and names are active, and who signed them. The policies in DIRECTORY are checked together with the
    project's: each replaces the one of its name, or is added.

    \b
    Example:
      cscm policy check
      cscm policy check deployments/policies/library
    """
    policies = _read(directory)
    rows = tuple(
        CheckedPolicy(
            gate=gate,
            policy=each.document.name,
            version=each.document.version,
            rules=len(each.rules),
            tests=sum(len(rule.document.tests) for rule in each.rules),
            untested_expressions=tuple(
                f"{rule.id}: {text}"
                for rule in each.tested
                for text in find_unnoticed(rule, gate, each.document.select)
            ),
            rules_without_failing_test=tuple(
                rule.id for rule in each.rules if refuses_nothing_tested(rule, gate, each.document.select)
            ),
        )
        for gate in Gate
        for each in policies.select_gate(gate).policies
    )
    result = PolicyCheck(policies=rows, active=None, why="") if directory else _check_state(rows, find_project())
    click.echo(result.model_dump_json(indent=2) if as_json else sanitize_lines(str(result)))
    if any(each.untested_expressions for each in rows):
        raise SystemExit(1)


def _check_state(rows: tuple[CheckedPolicy, ...], project: Path) -> PolicyCheck:
    """Return whether the project's policies are active; None if the workbench block cannot be read."""
    from httpx import HTTPError  # noqa: PLC0415 - Prefect's client does not wrap this error

    unmatched, unchecked = check_scopes(project)
    try:
        workbench = load_block("Workbench", "workbench")
    except (ModuleNotFoundError, ComponentFailed, SettingInvalid, HTTPError) as error:
        first = str(error).partition("\n")[0]
        why = f"the workbench block, which names the key of their owner, cannot be read: {first}"
        return PolicyCheck(policies=rows, active=None, why=why, unmatched=unmatched, unchecked=unchecked)
    state: ProjectState = workbench.project_state(project)
    return PolicyCheck(
        policies=rows,
        active=state.active,
        why=state.why,
        inactive=state.problems,
        unmatched=unmatched,
        unchecked=unchecked,
    )


@policy.command()
@key_option(required=True)
def sign(key: str) -> None:
    """Sign policies, environments and names with your own key, so that the gates decide by them.

    The signature covers all policies, deployments/names.yaml, and of each environment all but its description and the
    addresses of applications. After a change of these, sign again. A changed policy needs a higher `version`: the list
    that is signed retains all that were signed. It counts if you are the owner of
    deployments/people.yaml, or have `policies: true` there.

    \b
    Example:
      cscm policy sign --key ann.key
    """
    document, listing = (
        find_project() / DIRECTORY / LISTING,
        list_next(read_signable(find_project()), find_project() / DIRECTORY),
    )
    click.echo(sanitize_lines(listing.decode().rstrip()))
    bundle = sign_content(DocumentKind.POLICIES, document, listing, key)
    write_readable(document, listing)
    click.echo(f"signed: {sanitize_text(bundle)}")


@policy.command()
@directory
def docs(directory: Path | None) -> None:
    """Print a Markdown page with each rule of the policies in DIRECTORY (deployments/policies).

    \b
    Example:
      cscm policy docs > rules.md
    """
    click.echo(sanitize_lines(policy_page(_read(directory).documents)))


@policy.command()
def facts() -> None:
    """Print a Markdown page with the facts that the expressions of each gate can read.

    \b
    Example:
      cscm policy facts
    """
    click.echo(facts_page())


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a policy, for editors.

    \b
    Example:
      cscm policy schema > policy.schema.json
    """
    click.echo(json.dumps(PolicyDocument.model_json_schema(), indent=2))


@policy.command()
@click.argument("image", type=Image())
@click.option("--environment", default="", help="The environment, for the deploy gate; else the release gate.",
              shell_complete=environments)  # fmt: skip
@as_json
@verbose
def explain(image: str, environment: str, as_json: bool, verbose: bool) -> None:
    """Show what each rule of a gate says about IMAGE, and the facts that it read.

    IMAGE is curated/NAME@sha256:… or a digest, of which 12 digits are enough; dev/NAME@sha256:… is for the intake gate.

    \b
    Example:
      cscm policy explain 3fb1a90c7d2e --environment production
    """
    run("flows.policy:explain_policy", as_json, verbose, image=image, environment=environment)


@policy.command()
@click.argument("new", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown"]),
    default="text",
    help="Markdown is for a comment on a pull request.",
)
@as_json
@verbose
def preview(new: tuple[Path, ...], form: str, as_json: bool, verbose: bool) -> None:
    """Show what the documents in NEW would change for every image that a gate has judged and every deployment.

    NEW are policies, waivers and VEX documents: files, or directories with files *.yaml and *.json. Each replaces the
    project's document with its name, or is added. All count as if authorised people had signed them. The facts are
    those that `cscm inventory` stored; nothing is read from the registry, scanned or signed.

    \b
    Example:
      cscm policy preview ours.yaml waivers/django.yaml
      cscm policy preview ../proposal/deployments/policies --format markdown
    """
    result = run_flow("flows.policy:preview_policies", verbose, documents=_read_texts(new))
    if as_json or form == "text":
        print_result(result, as_json)
    else:
        click.echo(sanitize_lines(policy_preview_page(result)))


def _read_texts(paths: Iterable[Path]) -> dict[str, str]:
    """Return file → its text, of these files and of the documents in these directories."""
    files = list[Path]()
    for path in paths:
        documents = [path]
        if path.is_dir():
            named = (*path.glob("*.yaml"), *path.glob("*.json"))
            documents = sorted(each for each in named if not each.name.endswith(SUFFIX))
        if not documents:
            raise click.BadParameter(f"{path} has no document: no file *.yaml or *.json", param_hint="NEW")
        files += documents
    return {str(file): decode_document(read_content(file), str(file)) for file in files}


def _read(directory: Path | None) -> Policies:
    project = find_project()
    return read_proposed_policies(project, directory) if directory else read_project_policies(project)


COMMANDS = (policy,)
