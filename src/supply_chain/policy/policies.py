"""Policies that are ready to decide: every expression is checked, every parameter is in its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, is_typeddict

from supply_chain.errors import PolicyInvalid, RuleNotEvaluated
from supply_chain.evidence.examination import matches
from supply_chain.model.image import Digest, digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy.documents import PolicyDocument, RuleDocument, RuleSeverity, Selector
from supply_chain.policy.expressions import IMAGE, NOW, Expression, Language, Readers, Values, find
from supply_chain.policy.fact_schema import find_fact_type
from supply_chain.policy.facts import DeployFacts, F, IntakeFacts, ReleaseFacts
from supply_chain.policy.outcome import Reason
from supply_chain.policy.people import People
from supply_chain.policy.reviews import Reviews
from supply_chain.policy.vex import Vex, is_accepted
from supply_chain.policy.waivers import Waiver, Waivers
from supply_chain.text import render_time, truncate_lines

PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
OF_AN_ENVIRONMENT = tuple(
    f"{IMAGE}.{fact}"
    for fact in ("environment", "approval", "approvers", "independent_approvers", "break_glass", "soak")
)
"""Facts of the deploy gate that concern one environment."""
OF_A_SCHEDULE = (NOW, f"{IMAGE}.application", f"{IMAGE}.environment.name")
"""Facts by which a rule says when something is deployed, and nothing about the image."""
REVIEWERS = "reviewers"
"""The fact of a build that the reviews of a project determine."""
NO_REVIEWS = Reviews()
LISTED = 50
"""Number of elements of a list that a message names one by one."""
PART = 16
"""Number of elements that are asked about at once: most of a long list hold."""
TEXTS = ("STRING", "INT", "DOUBLE", "BOOL", "TIMESTAMP", "LIST")
"""Types that a message can contain."""
Deciding = tuple[str | bool | None, ...]
"""What the reasons of a rule depend on besides the facts."""
Reasons = tuple[Reason, ...] | None
"""Why a rule does not hold: empty if it holds, None if it does not apply."""


@dataclass(frozen=True)
class Template:
    """A text with expressions in braces."""

    parts: tuple[str | Expression, ...]

    @classmethod
    def compile(cls, text: str, language: Language) -> Template:
        """Check the expressions of a text; raise `PolicyInvalid`."""
        parts = PLACEHOLDER.split(text)  # every second part is an expression
        return cls(tuple(language.compile(each, *TEXTS) if at % 2 else each for at, each in enumerate(parts)))

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions in the text."""
        return tuple(each for each in self.parts if isinstance(each, Expression))

    def render(self, values: Values) -> str:
        """Return the text about an image; raise `RuleNotEvaluated`."""
        return "".join(each if isinstance(each, str) else _text_of(each.evaluate(values)) for each in self.parts)


def _text_of(value: Any) -> str:
    if isinstance(value, datetime):
        return render_time(value)
    if isinstance(value, list):
        return ", ".join(truncate_lines(LISTED, [_text_of(each) for each in value]))
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Loop:
    """The list of a rule with `for_each`."""

    name: str
    """The variable that stands for the element."""
    path: str
    """The list, as a path from `image`."""
    holds: Expression
    """Whether the rule holds for every element: the engine answers that much faster than for one after the other."""


@dataclass(frozen=True)
class Rule:
    """A checked rule."""

    document: RuleDocument
    when: Expression | None
    loop: Loop | None
    expression: Expression | None
    message: Template
    remedy: Template

    @property
    def id(self) -> str:
        """The code of the rule's reasons."""
        return self.document.id

    @cached_property
    def deciding(self) -> Deciding:
        """What its reasons depend on besides the facts: rules with equal ones have the same reasons."""
        document = self.document
        return (
            document.id, document.when, document.for_each, document.expression, document.message, document.remedy,
            document.waivable,
        )  # fmt: skip

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all facts that the rule can read, and other words."""
        return self.names_of_image.union(*(each.names for each in self._of_element))

    @cached_property
    def names_of_image(self) -> frozenset[str]:
        """The same, without what is read only about single elements of its list."""
        holds = [self.loop.holds] if self.loop else self._of_element
        return frozenset[str]().union(*(each.names for each in (*holds, self.when) if each))

    @property
    def reads(self) -> tuple[str, ...]:
        """The facts that decide whether the rule holds."""
        return tuple(dict.fromkeys(path for each in self._deciding for path in each.reads))

    @property
    def values(self) -> tuple[str, ...]:
        """The same, without those of which it only asks `has(…)`."""
        return tuple(dict.fromkeys(path for each in self._deciding for path in each.values))

    @property
    def is_schedule(self) -> bool:
        """Whether it says when something is deployed, such as a freeze, and nothing about the image."""
        return NOW in self.reads and set(self.reads) <= set(OF_A_SCHEDULE)

    @property
    def facts(self) -> tuple[str, ...]:
        """The facts of the image that the rule reads, also in its texts."""
        return _facts_of_image((self.when.reads if self.when else ()), self.facts_where_it_applies)

    @property
    def facts_where_it_applies(self) -> tuple[str, ...]:
        """The facts of the image that it reads without `when`."""
        deciding = self.loop.holds if self.loop else self.expression
        texts = (path for each in self._of_element for path in each.reads)
        return _facts_of_image((deciding.reads if deciding else ()), texts)

    def list_missing_facts(self, facts: type) -> tuple[str, ...]:
        """Return the facts of the image that the rule reads and that a type of facts does not have, each once.

        A group of facts can be present only because somebody signed it. So a rule that reads nothing else lacks these
        groups.
        """
        types = {path: find_fact_type(facts, path.split(".")[1:]) for path in self.facts}
        groups = tuple(path for path, kind in types.items() if is_typeddict(kind))
        lacking = tuple(path for path, kind in types.items() if kind is None)
        highest = tuple(path for path in lacking if path.rpartition(".")[0] not in lacking)
        return highest or (groups if len(groups) == len(types) else ())

    def severity(self, now: datetime) -> RuleSeverity:
        """Return what the rule does now: one that is not effective yet only warns."""
        effective = self.document.effective_on
        return RuleSeverity.WARN if effective is not None and now < effective else self.document.severity

    def _accepts(self, element: Any) -> bool:
        """Return whether the rule leaves out an element of its list, because it is an accepted finding."""
        return self.document.waivable and isinstance(element, Mapping) and is_accepted(element)

    def refuses(self, values: Values) -> bool:
        """Return whether the rule refuses the image now; raise `RuleNotEvaluated`.

        Only for a rule without `for_each`. Its texts are not evaluated, because they may read other facts.
        """
        assert self.expression is not None
        applies = self.severity(values.now) is RuleSeverity.DENY and (
            self.when is None or self.when.evaluate(values) is True
        )
        return applies and self.expression.evaluate(values) is not True

    def reasons(self, values: Values) -> Reasons:
        """Return why the rule does not hold, empty if it holds, None if it does not apply; raise `RuleNotEvaluated`."""
        try:
            if self.when is not None and self.when.evaluate(values) is not True:
                return None
        except RuleNotEvaluated as error:
            raise RuleNotEvaluated(f"rule {self.id}: {error.message}") from error
        return self.list_unconditional_reasons(values)

    def list_unconditional_reasons(self, values: Values) -> tuple[Reason, ...]:
        """Return why the rule does not hold, empty if it holds, without asking `when`; raise `RuleNotEvaluated`."""
        try:
            return tuple(self._reasons(values))
        except RuleNotEvaluated as error:
            raise RuleNotEvaluated(f"rule {self.id}: {error.message}") from error

    def _reasons(self, values: Values) -> Iterator[Reason]:
        if self.loop is None:
            assert self.expression is not None
            if self.expression.evaluate(values) is not True:
                yield self._reason(values)
            return
        holds = _holds_for_all(self.loop.holds, values)
        if holds:
            return
        elements = find(values.image, self.loop.path)
        reasons = [self._reason(one) for _, one in self._find_refused(self.loop, values)]
        if holds is False and not reasons and not any(map(self._accepts, elements)):
            raise RuleNotEvaluated(f"`{self.loop.holds.text}` and its single elements have different results.")
        yield from reasons

    def _find_suspects(self, loop: Loop, values: Values) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yield the parts of a list for which the rule does not hold, in order, each with its position."""
        elements, path = find(values.image, loop.path), f"{IMAGE}.{loop.path}"
        context = values.with_image(values.image, (each for each in loop.holds.reads if each != path), self._readers)
        for start in range(0, len(elements), PART):
            part = elements[start : start + PART]
            taken = values.take(loop.path, part, self._readers)
            if not _holds_for_all(loop.holds, context.with_list(loop.path, taken)):
                yield start, part

    def _find_refused(self, loop: Loop, values: Values) -> Iterator[tuple[int, Values]]:
        """Yield the positions of the elements for which the rule does not hold, with the values for them."""
        reads = (path for each in self._of_element for path in each.reads)
        context = values.with_image(values.image, reads, self._readers)
        for start, part in self._find_suspects(loop, values):
            for at, taken in enumerate(values.take(loop.path, part, self._readers)):
                if not self._accepts(part[at]):
                    one = context.with_element(loop.name, taken)
                    if self.expression is None or self.expression.evaluate(one) is not True:
                        yield start + at, one

    def find_refused(self, values: Values) -> tuple[int, ...]:
        """Return the positions of the elements of its list for which the rule does not hold; raise `RuleNotEvaluated`.

        Only a rule with `for_each` has them.
        """
        assert self.loop is not None
        return tuple(at for at, _ in self._find_refused(self.loop, values))

    @property
    def _deciding(self) -> Sequence[Expression]:
        """The expressions that decide whether the rule holds."""
        return tuple(each for each in (self.when, self.loop.holds if self.loop else self.expression) if each)

    @property
    def _readers(self) -> Readers:
        return frozenset((self.names,))

    @property
    def _of_element(self) -> Sequence[Expression]:
        """The expressions about one element of its list; without a list, those about the image but `when`."""
        own = (self.expression,) if self.expression else ()
        return (*own, *self.message.expressions, *self.remedy.expressions)

    def _reason(self, values: Values) -> Reason:
        return Reason(code=self.id, fact=self.message.render(values), remedy=self.remedy.render(values))


def _facts_of_image(*paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that begin with the image, each once."""
    return tuple(dict.fromkeys(path for each in paths for path in each if path.startswith(f"{IMAGE}.")))


def _holds_for_all(holds: Expression, values: Values) -> bool | None:
    """Return whether a rule holds for every element; None if that cannot be evaluated.

    Then the list is too long, or the element for which it cannot be evaluated is found one by one.
    """
    try:
        return holds.evaluate(values) is True
    except RuleNotEvaluated:
        return None


@dataclass(frozen=True)
class Policy:
    """A checked policy, as one gate uses it."""

    document: PolicyDocument
    rules: tuple[Rule, ...]
    tested: tuple[Rule, ...]
    """The rules with the parameters of their tests."""
    digest: Digest
    """The digest of the document."""

    def __str__(self) -> str:
        return f"{self.document.name} {self.document.version}"

    def selects(self, image: Mapping[str, Any]) -> bool:
        """Return whether the policy applies to an image; True if the facts do not decide it."""
        return is_selected(image, self.document.select)

    def selects_all_of(self, image: Mapping[str, Any]) -> bool:
        """Return whether the policy applies to an image, whatever its build is."""
        select = self.document.select
        return (select.classifications or select.kinds or select.sources) is None and self.selects(image)


def is_selected(image: Mapping[str, Any], select: Selector) -> bool:
    """Return whether a selector matches an image; True if the facts do not decide it."""
    build = image.get("build", {})
    kinds = (("classification", select.classifications), ("kind", select.kinds))
    return (
        (select.applications is None or matches(image["application"], select.applications))
        and all(allowed is None or key not in build or build[key] in allowed for key, allowed in kinds)
        and (select.sources is None or "uncurated" not in build or _source_of(build) in select.sources)
        and (select.environments is None or image["environment"]["name"] in select.environments)
    )


def _source_of(build: Mapping[str, Any]) -> str:
    return "upstream" if build["uncurated"] else "curated"


@dataclass(frozen=True)
class GatePolicy(Generic[F]):
    """All policies of a gate. An image has to pass every one that selects it."""

    gate: Gate
    policies: tuple[Policy, ...]
    digest: Digest
    """The digest of all that decides: the documents, the code that joins the facts, and the engine's version.

    Waivers are no part of it: a verdict names those that it rests on.
    """
    waivers: tuple[Waiver, ...] = ()
    """Those that have an effect until they expire."""
    people: People = field(default_factory=People)
    """The people whose approvals count."""
    vex: Vex = field(default_factory=Vex)
    """What issuers state about vulnerabilities."""
    reviews: Reviews = field(default_factory=Reviews)
    """What people reviewed."""

    def with_decisions(
        self, people: People, waivers: Waivers, vex: Vex, reviews: Reviews = NO_REVIEWS
    ) -> GatePolicy[F]:
        """Return the policies with these people, their waivers and reviews, and the statements of issuers.

        The digest says whether there are statements, so that an image is judged again when all are removed.
        """
        digest = digest_of(f"{self.digest}\nVEX".encode()) if vex.index else self.digest
        return replace(self, digest=digest, people=people, waivers=waivers.valid, vex=vex, reviews=reviews)

    @property
    def version(self) -> Digest:
        """The digest of all that decides but evidence and time: the policies, and what people and issuers signed."""
        waivers = [(each.reference, each.by, each.severity) for each in self.waivers]
        reviews = [(each.document.model_dump_json(), each.by) for each in self.reviews.valid]
        people = self.people.version, self.people.attached_version, self.people.vex_terms.version
        return digest_of(repr((self.digest, waivers, reviews, self.vex.version, people)).encode())

    @property
    def is_settled(self) -> bool:
        """Whether only evidence and the policies decide: no waiver, review or statement of an issuer, and no time."""
        reviewed = any(REVIEWERS in each.names for each in self.rules)
        decided = self.waivers or self.vex.index is not None or reviewed
        return not decided and not self.depends_on_time

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules of all policies."""
        return tuple(rule for policy in self.policies for rule in policy.rules)

    @cached_property
    def readers(self) -> Readers:
        """The names of the facts that each rule can read of an image."""
        return frozenset(rule.names_of_image for rule in self.rules)

    @cached_property
    def environment_rules(self) -> frozenset[str]:
        """The ids of the rules that read facts of one environment: what they refuse there is not refused elsewhere."""
        local = (each for each in self.rules if any(path.startswith(OF_AN_ENVIRONMENT) for path in each.reads))
        return frozenset(rule.id for rule in local)

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of all rules."""
        return frozenset(rule.id for rule in self.rules)

    @cached_property
    def schedules(self) -> frozenset[str]:
        """The ids of the rules that say when something is deployed, and nothing about the image."""
        return frozenset(rule.id for rule in self.rules if rule.is_schedule)

    def is_closed(self, application: str, environment: str, now: datetime) -> bool:
        """Return whether a schedule refuses every image of an application in an environment now.

        Raises `RuleNotEvaluated`.
        """
        image = {"application": application, "environment": {"name": environment}}
        values = Values.of(self.gate, image, now, self.readers)
        policies = (each for each in self.policies if each.selects_all_of(image))
        rules = (rule for each in policies for rule in each.rules if rule.is_schedule)
        return any(rule.refuses(values) for rule in rules)

    @cached_property
    def for_what_runs(self) -> GatePolicy[F]:
        """The policies without schedules: during a freeze, what was deployed before goes on."""
        policies = (
            replace(each, rules=tuple(rule for rule in each.rules if not rule.is_schedule)) for each in self.policies
        )
        return replace(self, policies=tuple(each for each in policies if each.rules))

    @property
    def depends_on_time(self) -> bool:
        """Whether the same evidence may get another verdict at another time."""
        return any(NOW in rule.reads or rule.document.effective_on is not None for rule in self.rules)


@dataclass(frozen=True)
class Policies:
    """The policies of the three gates."""

    intake: GatePolicy[IntakeFacts]
    release: GatePolicy[ReleaseFacts]
    deploy: GatePolicy[DeployFacts]
    waivers: Waivers = field(default_factory=Waivers)
    """All waivers, also those without effect."""
    vex: Vex = field(default_factory=Vex)
    reviews: Reviews = field(default_factory=Reviews)
    """All reviews, also those that do not count."""

    def with_decisions(self, people: People, waivers: Waivers, vex: Vex, reviews: Reviews = NO_REVIEWS) -> Policies:
        """Return the policies with these people, their waivers and reviews, and the statements of issuers."""
        intake, release, deploy = (each.with_decisions(people, waivers, vex, reviews) for each in self.gates)
        return Policies(intake, release, deploy, waivers, vex, reviews)

    def select(self, names: Set[str]) -> Policies:
        """Return only the policies with these names."""
        intake, release, deploy = (
            replace(each, policies=tuple(one for one in each.policies if one.document.name in names))
            for each in self.gates
        )
        return replace(self, intake=intake, release=release, deploy=deploy)

    @property
    def documents(self) -> tuple[PolicyDocument, ...]:
        """The documents of the policies of all gates, each once."""
        return tuple({each.document.name: each.document for gate in self.gates for each in gate.policies}.values())

    @property
    def waivable(self) -> dict[str, bool]:
        """The id of each rule, and whether it may be waived at every gate that has it."""
        waivable: dict[str, bool] = {}
        for rule in (rule for gate in self.gates for rule in gate.rules):
            waivable[rule.id] = waivable.get(rule.id, True) and rule.document.waivable
        return waivable

    @property
    def gates(self) -> tuple[GatePolicy[Any], ...]:
        """The policies of each gate."""
        return self.intake, self.release, self.deploy

    def select_gate(self, gate: Gate) -> GatePolicy[Any]:
        """Return the policies of a gate, for what shows policies."""
        policy: GatePolicy[Any] = getattr(self, gate.value)
        return policy


def compile_rule(document: RuleDocument, language: Language) -> Rule:
    """Check a rule; raise `PolicyInvalid`."""
    try:
        return _compile_rule(document, language)
    except PolicyInvalid as error:
        raise PolicyInvalid(f"rule {document.id}: {error.message}") from error


def _compile_rule(document: RuleDocument, language: Language) -> Rule:
    when = language.compile(document.when, "BOOL") if document.when else None
    loop, inner = None, language
    if document.for_each is not None:
        name, _, path = document.for_each.partition(" in ")
        listed = language.compile(path, "LIST")
        assert listed.element is not None
        if name in language.names:
            raise PolicyInvalid(f"`{name}` is a fact already; give the element another name.")
        inner = language.with_element(name, listed.element)
        holds = f"{path}.all({name}, {document.expression})" if document.expression else f"size({path}) == 0"
        loop = Loop(name, path.removeprefix(f"{IMAGE}."), language.compile(holds, "BOOL"))
    expression = inner.compile(document.expression, "BOOL") if document.expression else None
    rule = Rule(
        document, when, loop, expression, Template.compile(document.message, inner),
        Template.compile(document.remedy or "", inner),
    )  # fmt: skip
    if expression is not None and not expression.reads:
        raise PolicyInvalid(f"`{document.expression}` reads no fact: its result is the same for every image.")
    return rule
