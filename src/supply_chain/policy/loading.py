"""Reads the policies of a project and rejects what could not decide: every expression, rule and test is checked."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from supply_chain.errors import DeclarationInvalid, PolicyInvalid
from supply_chain.model.documents import decode_document, parse_document, read_content
from supply_chain.model.image import Digest, digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy import fact_values, reading
from supply_chain.policy.activation import NAMES, VERSIONS, Activation, read_activation, require_active
from supply_chain.policy.documents import Parameter, PolicyDocument, RuleDocument, Selector
from supply_chain.policy.expressions import make_language
from supply_chain.policy.names import NameRegister, parse_register, read_register_content
from supply_chain.policy.people import FILE as PEOPLE
from supply_chain.policy.people import People, PeopleOwner, read_people
from supply_chain.policy.policies import GatePolicy, Policies, Policy, Rule, compile_rule
from supply_chain.policy.reviews import DIRECTORY as REVIEWS
from supply_chain.policy.reviews import read_reviews
from supply_chain.policy.rule_tests import check_results, run_tests
from supply_chain.policy.vex import DIRECTORY as VEX
from supply_chain.policy.vex import read_vex_documents
from supply_chain.policy.waiver_limits import explain_limits
from supply_chain.policy.waivers import DIRECTORY as WAIVERS
from supply_chain.policy.waivers import Waivers, read_waivers
from supply_chain.vulnerability.vex import reading as vex_reading

DIRECTORY, ENVIRONMENTS = Path("deployments/policies"), Path("deployments/environments")
REGISTER = Path("deployments/names.yaml")
IMPORT = re.compile(r"^from (supply_chain\.[\w.]+) import ", re.MULTILINE)
PARAMETER = re.compile(r"\bparameters\.(\w+)")
_one_thread = threading.Lock()
"""Held while a document is checked, so that another thread uses the result and does not check it too."""


@cache
def compute_code_digest() -> Digest:
    """Return the digest of the code that joins and evaluates the facts, and of the engine's version."""
    return digest_of("\n".join([version("cel-expr-python"), read_code()]).encode())


def read_code() -> str:
    """Return the source of this package, of the reading of VEX documents, and of what facts are read and joined with.

    It is read when the policies are, so that the digest is that of the code which this process runs.
    """
    packages = Path(__file__).parent, Path(inspect.getfile(vex_reading)).parent
    own = [path.read_text(encoding="utf-8") for package in packages for path in sorted(package.glob("*.py"))]
    joining = "".join(inspect.getsource(module) for module in (reading, fact_values))
    used = sorted(set(IMPORT.findall(joining)))
    return "\n".join([*own, *(inspect.getsource(importlib.import_module(each)) for each in used)])


def read_project_policies(project: Path) -> Policies:
    """Read the policies of a project, for its environments; raise as `read_policies`."""
    return read_policies(project / DIRECTORY, list_environments(project))


def read_proposed_policies(project: Path, directory: Path) -> Policies:
    """Read the policies of a directory, such as the library, which need not be of every gate; raise as `read_policies`.

    They are checked together with those of the project: each replaces the one of its name, or is added. Only they are
    returned, and no gate can use them so.
    """
    documents = {name: decode_document(content, name) for name, content in read_documents(directory).items()}
    if not documents:
        raise PolicyInvalid(f"{directory} has no policy: no file there is called *.yaml.")
    environments = list_environments(project)
    proposed = replace_policies(read_project_policies(project), documents, environments)
    names = {parse_document(text, PolicyDocument, name).name for name, text in documents.items()}
    return proposed.select(names)


def list_environments(project: Path) -> list[str]:
    """Return the names of a project's environments, sorted."""
    return sorted(each.stem for each in (project / ENVIRONMENTS).glob("*.yaml"))


def compile_project(project: Path, documents: Mapping[str, bytes]) -> Policies:
    """Return a project's policies from the content of their files, as `compile_policies`."""
    return compile_policies(documents, list_environments(project), project / DIRECTORY)


def read_active_policies(project: Path, owner: PeopleOwner, since: datetime | None, now: datetime) -> Policies:
    """Read the policies by which the gates decide; raise `PolicyUnsigned` if they are not active.

    What is compiled is what was signed: each file is read once, and not parsed before. `since` is the time from which
    signatures count (`activation.read_activation`). Everything else is as in `read_unsigned_policies`.
    """
    directory = project / DIRECTORY
    documents, people = read_documents(directory), read_people(project / PEOPLE, owner, now)
    state = read_activation(directory, people, owner, since, now).find_policy_state(documents)
    require_active(state, f"The policies in {directory} are not active, so no gate decides")
    return _with_decisions(project, compile_project(project, documents), people, now)


def read_active_register(project: Path, owner: PeopleOwner, since: datetime | None, now: datetime) -> NameRegister:
    """Read the name register by which the intake gate decides; raise `PolicyUnsigned` if it is not active.

    Raise also as `names.read_register`. What is parsed is what was signed.
    """
    path = project / REGISTER
    content = read_register_content(path)
    state = read_project_activation(project, owner, since, now).find_state(NAMES, content)
    require_active(state, f"{path} is not active, so it is unknown to whom a name belongs")
    return parse_register(content, path)


def read_project_activation(project: Path, owner: PeopleOwner, since: datetime | None, now: datetime) -> Activation:
    """Return what the files of a project are compared with; raise as `read_activation`."""
    return read_activation(project / DIRECTORY, read_people(project / PEOPLE, owner, now), owner, since, now)


def read_unsigned_policies(project: Path, owner: PeopleOwner, now: datetime) -> Policies:
    """Read policies for what decides nothing, signed or not, with people, waivers and VEX; raise as `read_policies`.

    Without a people document that its owner signed no decision counts, and the reports say why. Raise `SettingInvalid`
    if the owner's key is none.
    """
    return _with_decisions(project, read_project_policies(project), read_people(project / PEOPLE, owner, now), now)


def _with_decisions(project: Path, policies: Policies, people: People, now: datetime) -> Policies:
    waivers = read_project_waivers(project, people, policies, now)
    vex, reviews = read_vex_documents(project / VEX, people, now), read_reviews(project / REVIEWS, people, now)
    return policies.with_decisions(people, waivers, vex, reviews)


def read_project_waivers(project: Path, people: People, policies: Policies, now: datetime) -> Waivers:
    """Read the waivers of a project, as far as these policies let rules be waived."""
    return explain_limits(read_waivers(project / WAIVERS, people, policies.waivable, now), policies, now)


def read_policies(directory: Path, environments: Sequence[str]) -> Policies:
    """Read the policies of a directory; raise `PolicyInvalid` or `DeclarationInvalid` for one that cannot decide.

    `environments` are the names of the project's environments. What a process has checked, it does not check again
    before a file changes.
    """
    return compile_policies(read_documents(directory), environments, directory)


def read_documents(directory: Path) -> dict[str, bytes]:
    """Return the content of each policy in a directory, by the file's name; raise `DeclarationInvalid`.

    Hidden files are an editor's. A file whose name only looks like a policy's is refused, because nobody would read it.
    """
    files = sorted(file for file in directory.glob("*.*") if not file.name.startswith("."))
    for file in files:
        if file.suffix != ".yaml" and file.suffix.lower() in (".yaml", ".yml"):
            raise DeclarationInvalid(
                f"{file} does not have the name of a policy.\nRename it to {file.stem}.yaml, or move it away."
            )
    return {file.name: read_content(file) for file in files if file.suffix == ".yaml"}


def name_versions(documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return policies, as file name → content, by their versions in the signed list; raise `DeclarationInvalid`.

    Raise `PolicyInvalid` for two of the same name and version, which may be of different gates: verdicts name only
    these.
    """
    files: dict[str, str] = {}
    for file, content in documents.items():
        policy = parse_document(decode_document(content, file), PolicyDocument, file)
        if (other := files.setdefault(f"{VERSIONS}{policy.name}.{policy.version}", file)) != file:
            raise PolicyInvalid(
                f"{other} and {file} are both version {policy.version} of the policy {policy.name}.\n"
                "Give one of them another `name`."
            )
    return {version: documents[file] for version, file in files.items()}


def compile_policies(documents: Mapping[str, bytes], environments: Sequence[str], directory: Path) -> Policies:
    """Return the policies of a directory from the content of its files; raise as `read_policies`."""
    by_gate: dict[Gate, list[Policy]] = {gate: [] for gate in Gate}
    for name, content in documents.items():
        try:
            with _one_thread:
                checked = _check_content(content, name, tuple(environments))
        except (DeclarationInvalid, PolicyInvalid) as error:
            raise type(error)(f"{directory}/{error.message}") from error
        for gate, policy in checked.items():
            by_gate[gate].append(policy)
    intake, release, deploy = (_of_gate(gate, by_gate[gate], directory) for gate in Gate)
    return Policies(intake, release, deploy)


def replace_policies(current: Policies, proposed: Mapping[str, str], environments: Sequence[str]) -> Policies:
    """Return the policies with proposed ones: each replaces the one of its name, or is added; raise as `read_policies`.

    `proposed` is file name → text. `environments` are the names of the project's environments.
    """
    checked = [_check_content(text.encode(), name, tuple(environments)) for name, text in sorted(proposed.items())]
    names = {policy.document.name for by_gate in checked for policy in by_gate.values()}

    def of_gate(gate: Gate) -> GatePolicy[Any]:
        others = [each for each in current.select_gate(gate).policies if each.document.name not in names]
        return _of_gate(
            gate, [*others, *(by_gate[gate] for by_gate in checked if gate in by_gate)], "With these, the project"
        )

    intake, release, deploy = map(of_gate, Gate)
    return Policies(intake, release, deploy)


@cache
def _check_content(content: bytes, name: str, environments: tuple[str, ...]) -> Mapping[Gate, Policy]:
    """Check the policy of a file; raise `PolicyInvalid` or `DeclarationInvalid`, which begin with the file's name."""
    document = parse_document(decode_document(content, name), PolicyDocument, name)
    try:
        return check_policy(document, environments)
    except PolicyInvalid as error:
        raise PolicyInvalid(f"{name}: {error.message}") from error


def _of_gate(gate: Gate, policies: Sequence[Policy], directory: Path | str) -> GatePolicy[Any]:
    if not policies:
        raise PolicyInvalid(f"{directory} has no policy for the {gate} gate, which would admit everything.")
    _require_unique([each.document.name for each in policies], f"{directory}: policies of the {gate} gate named")
    ids = [rule.id for each in policies for rule in each.rules]
    _require_unique(ids, f"{directory}: rules of the {gate} gate with the id")
    _require_different(gate, policies, directory)
    return make_gate_policy(gate, policies)


def _require_different(gate: Gate, policies: Sequence[Policy], directory: Path | str) -> None:
    """Raise `PolicyInvalid` for rules of several policies that say the same about the same images.

    A rule may refuse what a rule of another policy only notes.
    """
    same: dict[object, list[str]] = {}
    for policy in policies:
        selected = tuple(frozenset(values or ()) for _, values in policy.document.select)
        for rule in policy.rules:
            decides = selected, _decision(rule.document), rule.document.severity
            same.setdefault(decides, []).append(f"{rule.id} of {policy.document.name}")
    if twice := [" and ".join(rules) for rules in same.values() if len(rules) > 1]:
        raise PolicyInvalid(
            f"{directory}: rules of the {gate} gate say the same about the same images: {'; '.join(twice)}.\n"
            "Remove all but one."
        )


def make_gate_policy(gate: Gate, policies: Sequence[Policy]) -> GatePolicy[Any]:
    """Return all policies of a gate with their digest."""
    content = "\n".join([gate.value, compute_code_digest(), *(each.digest for each in policies)])
    return GatePolicy(gate, tuple(policies), digest_of(content.encode()))


def _require_unique(names: Sequence[str], what: str) -> None:
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise PolicyInvalid(f"{what} {', '.join(twice)} are there twice.\nGive each another one.")


def check_policy(document: PolicyDocument, environments: Sequence[str]) -> dict[Gate, Policy]:
    """Check a policy: types, cost, tests and selector; return it for each of its gates. Raise `PolicyInvalid`."""
    if unknown := sorted(set(document.select.environments or ()) - set(environments)):
        raise PolicyInvalid(f"select.environments names {', '.join(unknown)}, so that it selects no image there.")
    used = set[str]()
    expanded = [rule for each in document.rules for rule in each.expand()]
    documents = [fill_parameters(rule, document.parameters, used) for rule in expanded]
    tested = [fill_parameters(rule, {**document.parameters, **document.tested_with}, set()) for rule in expanded]
    if unused := sorted(document.parameters.keys() - used):
        raise PolicyInvalid(f"no rule uses the parameter {', '.join(unused)}; remove it.")
    decisions = [_decision(each) for each in documents]
    if twice := [each.id for each in documents if decisions.count(_decision(each)) > 1]:
        raise PolicyInvalid(f"the rules {' and '.join(twice)} say the same; keep one of them.")
    digest = digest_of(document.model_dump_json().encode())
    rules = {gate: _checked(documents, tested, gate, document.select) for gate in document.gates}
    return {gate: Policy(document, each.rules, each.tested, digest) for gate, each in rules.items()}


def _decision(rule: RuleDocument) -> tuple[str | None, ...]:
    return rule.when, rule.for_each, rule.expression


class _Rules(NamedTuple):
    rules: tuple[Rule, ...]
    tested: tuple[Rule, ...]


def _checked(documents: Sequence[RuleDocument], tested: Sequence[RuleDocument], gate: Gate, select: Selector) -> _Rules:
    """Return the rules for a gate, after running their tests with its example facts.

    `tested` are the same rules with the parameters of their tests. If these differ, the rules only have to be evaluated
    with the facts of the tests, whatever the results are.
    """
    rules = tuple(compile_rule(each, make_language(gate)) for each in documents)
    if documents == tested:
        return _Rules(rules, _tested(rules, gate, select))
    for rule in rules:
        check_results(rule, gate, select)
    return _Rules(rules, _tested(tuple(compile_rule(each, make_language(gate)) for each in tested), gate, select))


def _tested(rules: tuple[Rule, ...], gate: Gate, select: Selector) -> tuple[Rule, ...]:
    for rule in rules:
        run_tests(rule, gate, select)
    return rules


def fill_parameters(rule: RuleDocument, parameters: Mapping[str, Parameter], used: set[str]) -> RuleDocument:
    """Return the rule with the values of the parameters in its expressions, and add to `used` which it uses.

    Raise `PolicyInvalid` for one that is not there.
    """

    def literal(match: re.Match[str]) -> str:
        if match[1] not in parameters:
            raise PolicyInvalid(f"rule {rule.id}: there is no parameter {match[1]}.")
        used.add(match[1])
        return _literal(parameters[match[1]])

    changes = {
        key: PARAMETER.sub(literal, text)
        for key in ("when", "expression", "message", "remedy")
        if (text := getattr(rule, key)) is not None
    }
    return rule.model_copy(update=changes)


def _literal(value: Parameter) -> str:
    """Return a value as CEL writes it; JSON has the same texts, numbers and lists."""
    return json.dumps(value, ensure_ascii=False)
