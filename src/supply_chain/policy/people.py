"""People who may decide about images: how they sign, and what each of them may do (`deployments/people.yaml`)."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, model_validator

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.evidence.approval import Approval
from supply_chain.evidence.break_glass import BreakGlass
from supply_chain.evidence.envelope import Key, parse_keys
from supply_chain.evidence.image_status import BLOCKS, LIFTS, Act, LifecycleDecision
from supply_chain.evidence.keyless import Credential, Identity, explain_root
from supply_chain.evidence.personal_decision import explain_keyless
from supply_chain.evidence.statement import LIFECYCLE, Statement, VerifiedStatement
from supply_chain.model.documents import (
    LIMIT,
    WrittenTime,
    decode_document,
    parse_document,
    read_content,
    read_document,
)
from supply_chain.model.image import Digest, ImageRef, Model, digest_of
from supply_chain.policy.signed_documents import (
    DocumentKind,
    Keyring,
    Unsigned,
    explain_installation,
    is_about_content,
    read_bundle,
    read_file,
    verify_document,
)
from supply_chain.vulnerability.findings import Severity
from supply_chain.vulnerability.vex.matching import VexTerms
from supply_chain.vulnerability.vex.statement import Justification

D = TypeVar("D", Approval, BreakGlass, LifecycleDecision)
FILE = Path("deployments/people.yaml")
TRUSTED_ROOT = Path("deployments/sigstore/trusted_root.json")
"""What verifies keyless signatures: sigstore's TrustedRoot in JSON."""
PersonName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
Email = Annotated[str, StringConstraints(pattern=r"^\S+@\S+$", max_length=320, to_lower=True)]
LAPTOP = "laptop"
"""The installation of every laptop, also without a people document."""
MOST_DAYS = 366
MOST_HOURS = 168
"""The longest time, in hours, for which a person may let a refused image run."""


class PeopleOwner(NamedTuple):
    """Whose people document counts; the files of a project do not say that."""

    key: str = ""
    """The owner's public key in PEM; empty: no document counts."""
    installation: str = ""
    """The installation that the document has to name; empty: any. An owner may sign for several with one key.

    If it is empty, and no document counts, nothing counts that the owner signed.
    """


NO_TERMS = VexTerms(accepted_justifications=frozenset(), investigation_days=0, not_affected_days=0)
"""No issuer's `not_affected` or `under_investigation` counts."""


class WaiverRole(Model):
    """What a person may waive."""

    rules: tuple[str, ...] = Field(
        default=(), description="ids of rules, or all whose id begins so: `scan.*`; empty: the person may waive no rule"
    )
    vulnerabilities: Severity | None = Field(
        default=None,
        description="the worst severity of a vulnerability that the person may accept, also by waiving a rule that "
        "refuses it; one that is not rated counts as critical; null: none",
    )
    days: int = Field(ge=1, le=MOST_DAYS, description="for how many days, counted from the signature")

    def allows(self, rule: str) -> bool:
        """Return whether the person may waive a rule."""
        return any(rule.startswith(each[:-1]) if each.endswith(".*") else rule == each for each in self.rules)


class BreakGlassRole(Model):
    """Where a person may let a refused image run, and for how long."""

    environments: tuple[str, ...] = Field(min_length=1, description="the names of the environments")
    hours: int = Field(ge=1, le=MOST_HOURS, description="for how many hours, counted from the signature")


class KeylessIdentity(Model):
    """An identity with which a person signs keyless."""

    issuer: str = Field(
        pattern=r"^https://\S+$",
        max_length=500,
        description="address of the OpenID Connect provider, as a certificate has it",
    )
    subject: str = Field(
        pattern=r"^\S+$",
        max_length=1000,
        description="exactly what the provider calls the person, such as an e-mail address",
    )
    since: WrittenTime | None = Field(default=None, description="earlier signatures do not count")
    until: WrittenTime | None = Field(default=None, description="signatures from then on do not count")


class Person(Model):
    """A person."""

    keys: tuple[str, ...] = Field(default=(), description="public keys in PEM, on P-256, as cosign makes them")
    identities: tuple[KeylessIdentity, ...] = Field(
        default=(), description="identities with which the person signs keyless; a person has keys, identities or both"
    )
    emails: tuple[Email, ...] = Field(
        default=(),
        description="the addresses with which the person commits; without any, the person may be the committer",
    )
    approve: tuple[str, ...] = Field(default=(), description="the environments for which the person may approve")
    block: bool = Field(default=False, description="whether the person may block and unblock images")
    hold: bool = Field(default=False, description="whether the person may hold images, and end a hold")
    review: bool = Field(default=False, description="whether commits count as reviewed by the person")
    waive: WaiverRole | None = Field(default=None, description="null: the person may waive nothing")
    policies: bool = Field(default=False, description="whether policies that the person signed are active")
    break_glass: BreakGlassRole | None = Field(
        default=None, description="where the person may let a refused image run; null: nowhere"
    )

    @property
    def names(self) -> frozenset[str]:
        """The addresses with which the person may commit, so that those which look the same are the same."""
        return _comparable((*self.emails, *(each.subject for each in self.identities)))

    def is_independent(self, committers: Collection[str]) -> bool:
        """Return whether the person did not commit, by their addresses; False if either is unknown."""
        return bool(self.emails and committers) and self.names.isdisjoint(_comparable(committers))

    @model_validator(mode="after")
    def _can_sign(self) -> Person:
        if not self.keys and not self.identities:
            raise ValueError("a person signs with keys or identities; write at least one")
        return self


class VexIssuer(Model):
    """Somebody whose VEX documents count."""

    keys: tuple[str, ...] = Field(min_length=1, description="public keys in PEM, on P-256")


class VexSettings(Model):
    """Whose VEX documents count, and what they may state."""

    issuers: dict[PersonName, VexIssuer] = Field(description="name → keys with which it signs")
    justifications: tuple[Justification, ...] = Field(
        default=(), description="why an image may be `not_affected`; empty: `not_affected` never counts"
    )
    investigation_days: int = Field(
        default=0, ge=0, le=MOST_DAYS, description="for how many days `under_investigation` counts"
    )
    not_affected_days: int = Field(
        default=365,
        ge=1,
        le=MOST_DAYS,
        description="for how many days `not_affected` counts, from when the statement was last changed",
    )
    fixed_days: int | None = Field(
        default=None,
        ge=1,
        le=MOST_DAYS,
        description="for how many days `fixed` counts, likewise; null: without an end, because a version keeps its fix",
    )


class TrustedBuilder(Model):
    """A builder of others whose SLSA provenance counts."""

    id: str = Field(
        pattern=r"^\S+$", max_length=1000, description="exactly the `builder.id` that its provenance has to state"
    )
    keys: tuple[str, ...] = Field(min_length=1, description="public keys in PEM, on P-256, with which it signs")
    level: Literal[1, 2, 3] = Field(description="the level of SLSA's Build track that it is trusted with")


class PeopleDocument(Model):
    """Who may decide what."""

    installation: PersonName = Field(
        description="the name of this installation; what was signed for another one does not count"
    )
    expires: AwareDatetime = Field(
        description="from then on no signature counts, so that an earlier version cannot come back forever"
    )
    people: dict[PersonName, Person] = Field(description="name → how the person signs, and what they may do")
    trusted_root: Digest | None = Field(
        default=None,
        description=f"sha256:… of {TRUSTED_ROOT}, which verifies keyless signatures; null: none counts",
    )
    vex: VexSettings | None = Field(default=None, description="null: no VEX document counts")
    builders: dict[PersonName, TrustedBuilder] = Field(
        default_factory=dict, description="name → a builder whose provenance, attached to an image, shows a build level"
    )

    @model_validator(mode="after")
    def _has_no_shared_credential(self) -> PeopleDocument:
        owners: dict[tuple[object, object], str] = {}
        for name, person in self.people.items():
            numbers = [key.public_numbers() for key in _keys(name, person.keys)]
            identities = [(each.issuer, each.subject) for each in person.identities]
            for own in [*((each.x, each.y) for each in numbers), *identities]:
                if (other := owners.setdefault(own, name)) != name:
                    raise ValueError(f"{other} and {name} have the same key or identity; each person has their own")
        for name, issuer in (self.vex.issuers if self.vex else {}).items():
            _keys(name, issuer.keys)
        return self

    @model_validator(mode="after")
    def _has_no_builder_twice(self) -> PeopleDocument:
        """Validate that an id and a key stand for one builder, and so for one level."""
        listed: dict[tuple[str, object], str] = {}
        for name, builder in self.builders.items():
            for key in _keys(name, builder.keys):
                if (other := listed.setdefault((builder.id, key.public_numbers()), name)) != name:
                    raise ValueError(f"{other} and {name} have the same id and key; list each builder once")
        return self


def _keys(name: str, keys: Iterable[str]) -> tuple[Key, ...]:
    try:
        return tuple(key for each in keys for key in parse_keys(each, name))
    except SettingInvalid as error:
        raise ValueError(f"a key of {name} is not a public key on P-256 in PEM") from error


@dataclass(frozen=True)
class People:
    """The people whose signatures count."""

    people: Mapping[str, Person] = field(default_factory=dict)
    keys: Mapping[str, Sequence[Credential]] = field(default_factory=dict)
    """The public keys and the identities of each person."""
    issuers: Mapping[str, Sequence[Key]] = field(default_factory=dict)
    """The keys of those whose VEX documents count."""
    vex_terms: VexTerms = NO_TERMS
    builders: Mapping[str, TrustedBuilder] = field(default_factory=dict)
    """The builders whose provenance counts."""
    builder_keys: Mapping[str, Sequence[Key]] = field(default_factory=dict)
    """The keys of each builder."""
    distrusted: str = ""
    """Why no signature counts; empty if the owner signed the document."""
    expires: datetime | None = None
    """From when on no signature counts; None if none does."""
    trusted_root: Digest | None = None
    """The digest of what verifies keyless signatures."""
    installation: str = ""
    """The installation for which people sign here; empty if it is not known, so that nothing counts."""

    @property
    def policy_keys(self) -> Mapping[str, Sequence[Credential]]:
        """The keys and identities of the people whose signature makes policies active."""
        return {name: keys for name, keys in self.keys.items() if self.people[name].policies}

    @property
    def version(self) -> str:
        """A text that differs if other people count, or for other things."""
        people = {name: person.model_dump_json() for name, person in sorted(self.people.items())}
        return repr((people, self.trusted_root, self.installation))

    @property
    def attached_version(self) -> str:
        """A text that differs if attached documents of other issuers, or provenance of other builders, count."""
        issuers = {name: [key.public_numbers() for key in keys] for name, keys in sorted(self.issuers.items())}
        return repr((issuers, [(name, each.model_dump_json()) for name, each in sorted(self.builders.items())]))

    def find_issuer(self, signed: Callable[[Key], bool]) -> str | None:
        """Return the issuer of VEX documents with one of whose keys something is signed; None if nobody signed it."""
        return next((name for name, keys in self.issuers.items() if any(map(signed, keys))), None)

    def find_builders(self, signed: Callable[[Key], bool]) -> tuple[str, ...]:
        """Return the builders with one of whose keys something is signed."""
        return tuple(name for name, keys in self.builder_keys.items() if any(map(signed, keys)))

    def explain_uncounted_approval(self, decision: Approval, image: ImageRef) -> str:
        """Return why a person's signed approval of an image does not count; empty if it does."""
        if self.distrusted:
            return self.distrusted
        if why := self._explain_unsigned(decision, lambda credential: decision.is_signed_by(credential, image)):
            return why
        if decision.environment not in self.people[decision.by].approve:
            return f"{decision.by} may not approve for {decision.environment}"
        return ""

    def explain_uncounted_decision(self, decision: LifecycleDecision, digest: Digest) -> str:
        """Return why a signed lifecycle decision about a digest does not count as a person's; empty if it does."""
        if self.distrusted:
            return self.distrusted
        if why := self._explain_unsigned(decision, lambda credential: decision.is_signed_by(credential, digest)):
            return why
        person = self.people[decision.by]
        may = person.block if decision.act in BLOCKS else person.hold
        return "" if may else f"{decision.by} may not {decision.act}"

    def explain_uncounted_lift(self, subject: ImageRef, statement: VerifiedStatement) -> str:
        """Return why a statement ends no block or hold where that needs a signature; empty for every other statement.

        A block counts for a digest under every name, a hold for the image of one application. One that cannot be read
        is left to the code that reads it.
        """
        if statement.predicate_type != LIFECYCLE or statement.predicate.get("act") not in LIFTS:
            return ""
        try:
            decision = LifecycleDecision.model_validate(statement.predicate)
        except ValidationError:
            return ""
        why = self.explain_uncounted_decision(decision, subject.digest)
        if decision.act is Act.UNHOLD and not why and ImageRef.parse(decision.image).application != subject.application:
            why = "it is about another application"
        return f"{decision.act} without effect: {why}" if why else ""

    def explain_uncounted_break_glass(self, use: BreakGlass, image: ImageRef) -> str:
        """Return why a person's break-glass of an image does not count; empty if it does until it expires."""
        if self.distrusted:
            return self.distrusted
        if why := self._explain_unsigned(use, lambda credential: use.is_signed_by(credential, image)):
            return why
        role = self.people[use.by].break_glass
        if role is None or use.environment not in role.environments:
            return f"{use.by} may not break the glass for {use.environment}"
        if use.expires - use.at > timedelta(hours=role.hours):
            return (
                f"it lasts until {use.expires:%Y-%m-%d %H:%M}, and {use.by} may break the glass for {role.hours} hours"
            )
        return ""

    def find_break_glass(self, uses: Iterable[BreakGlass], image: ImageRef) -> tuple[BreakGlass, ...]:
        """Return the uses of break-glass of an image that count until they expire."""
        return tuple(each for each in uses if not self.explain_uncounted_break_glass(each, image))

    def _explain_unsigned(
        self, decision: Approval | BreakGlass | LifecycleDecision, is_signed_by: Callable[[Credential], bool]
    ) -> str:
        """Return why a decision is not signed by the person whom it names; empty if it is."""
        own = self.keys.get(decision.by, ())
        if any(map(is_signed_by, own)):
            why = explain_installation(decision.installation, self.installation)
            return f"{decision.by} {why}" if why else ""
        if why := explain_keyless(decision.signature, own):
            return f"its keyless signature is not by an identity of {decision.by} in {FILE}: {why}"
        return f"it is not signed with a key of {decision.by} in {FILE}"

    def find_approvers(self, decisions: Iterable[Approval], image: ImageRef) -> tuple[str, ...]:
        """Return the people whose signed approvals of an image count, each once."""
        counted = (each.by for each in decisions if not self.explain_uncounted_approval(each, image))
        return tuple(dict.fromkeys(counted))

    def find_independent(self, approvers: Iterable[str], committers: Collection[str]) -> tuple[str, ...]:
        """Return the approvers who did not commit, by their e-mail addresses; nobody if the committers are unknown."""
        return tuple(name for name in approvers if self.people[name].is_independent(committers))


def _comparable(emails: Iterable[str]) -> frozenset[str]:
    """Return addresses so that those which look the same are the same, however their letters are encoded."""
    return frozenset(unicodedata.normalize("NFKC", each).casefold() for each in emails)


def sign_as_person(
    decision: D, image: ImageRef, installation: str, sign: Callable[[Statement], bytes], explain: Callable[[D], str]
) -> D:
    """Return a decision about an image with its person's signature.

    The person signs for an installation. `sign` returns the person's signature of a statement, and `explain` why a
    signed decision would not count. Raise `DeclarationInvalid` if it would not, or could not be read again.
    """
    bound = decision.model_copy(update={"installation": installation})
    signed = _validate(bound.model_copy(update={"signature": sign(bound.statement(image)).decode()}))
    if why := explain(signed):
        raise make_uncounted_error(why)
    return signed


def _validate(decision: D) -> D:
    try:
        return type(decision).model_validate(decision.model_dump())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise DeclarationInvalid(
            f"The decision is too long, or otherwise invalid: {field}: {first['msg']}.\nCorrect some of what refuses "
            "the image, or give a shorter reason, and sign again. Nothing was signed into the evidence."
        ) from error


def make_uncounted_error(why: str) -> DeclarationInvalid:
    """Return the error about a person's signed decision that would not count."""
    return DeclarationInvalid(
        f"The decision would not count: {why}.\n"
        "Use the key and the name that deployments/people.yaml has for you. Nothing was signed into the evidence."
    )


def read_people(file: Path, owner: PeopleOwner, now: datetime) -> People:
    """Read the people, if the owner signed the document; raise `SettingInvalid` if the owner's key is none.

    Without the owner's signature none of a person counts: whoever can change the file could otherwise give themselves
    any role. A document that is not signed is not even parsed.
    """
    document = _read_signed(file, owner, now)
    if isinstance(document, str):
        return People(distrusted=document, installation=owner.installation)
    installation = owner.installation or document.installation
    if why := explain_installation(document.installation, installation):
        return People(distrusted=f"{FILE} does not count: its owner {why}", installation=installation)
    if document.expires <= now:
        why = f"{FILE} expired on {document.expires:%Y-%m-%d}; its owner signs a new one"
        return People(distrusted=why, installation=installation)
    vex, root = document.vex or VexSettings(issuers={}), _read_root(file, document)
    return People(
        document.people,
        Keyring({name: _credentials(name, person, root) for name, person in document.people.items()}),
        Keyring({name: _keys(name, issuer.keys) for name, issuer in vex.issuers.items()}),
        VexTerms(
            accepted_justifications=frozenset(vex.justifications),
            investigation_days=vex.investigation_days,
            not_affected_days=vex.not_affected_days,
            fixed_days=vex.fixed_days,
        ),
        document.builders,
        Keyring({name: _keys(name, builder.keys) for name, builder in document.builders.items()}),
        expires=document.expires,
        trusted_root=document.trusted_root,
        installation=installation,
    )


def _read_signed(file: Path, owner: PeopleOwner, now: datetime) -> PeopleDocument | str:
    """Return the document, or why it does not count, whatever it says about installation and time."""
    content = read_file(file, LIMIT)
    if content is None:
        return f"there is no {FILE}"
    own = parse_owner_keys(owner.key)
    if not own:
        return f"the workbench block names no key of the owner of {FILE}"
    signature = verify_document(DocumentKind.PEOPLE, file.name, content, read_bundle(file), {"its owner": own}, "", now)
    if isinstance(signature, Unsigned):
        return f"{FILE} does not count: {signature.why}"
    try:
        return parse_document(decode_document(content, str(FILE)), PeopleDocument, str(FILE))
    except DeclarationInvalid as error:
        return f"{FILE} does not count: {error.message}"


def _credentials(name: str, person: Person, root: bytes | str) -> tuple[Credential, ...]:
    identities = (Identity(each.issuer, each.subject, root, each.since, each.until) for each in person.identities)
    return (*_keys(name, person.keys), *identities)


def read_valid_people(file: Path) -> PeopleDocument:
    """Read a people document, signed or not; raise `DeclarationInvalid` for one whose people could not sign."""
    document = read_document(file, PeopleDocument)
    if document.trusted_root is None and not any(person.identities for person in document.people.values()):
        return document
    root = _read_root(file, document)
    why = root if isinstance(root, str) else explain_root(root)
    if why:
        raise DeclarationInvalid(
            f"No identity in {FILE} can sign: {why}.\nPut the trusted root of the signing service there (`cosign "
            "trusted-root create`), and write its digest (`sha256sum`) into `trusted_root`."
        )
    return document


class Installation(NamedTuple):
    """The installation for which people sign in a project."""

    name: str
    unverified: str = ""
    """Why nobody knows whether the owner of the people document named it; empty: that is known, or there is none."""


def read_installation(project: Path, owner: str, now: datetime) -> Installation:
    """Return for which installation people sign in a project; `LAPTOP` if it has no people document.

    `owner` is the public key of the document's owner in PEM; empty: it is not known, as not everybody who signs knows
    it. Raise `DeclarationInvalid` for an invalid document, and for one with a signature of other content, or with one
    that is not its owner's. Raise `SettingInvalid` if the owner's key is none.
    """
    file = project / FILE
    if not file.exists():
        return Installation(LAPTOP)
    content, bundle = read_content(file), read_bundle(file)
    if bundle is None:
        unverified = "nobody signed it yet"
    elif own := parse_owner_keys(owner):
        signature = verify_document(DocumentKind.PEOPLE, file.name, content, bundle, {"its owner": own}, "", now)
        if isinstance(signature, Unsigned):
            raise _false_installation(f"is not as its owner signed it ({signature.why})")
        unverified = ""
    elif is_about_content(bundle, content):
        unverified = "the key of its owner is not known here"
    else:
        raise _false_installation("is not as it was signed")
    document = parse_document(decode_document(content, str(file)), PeopleDocument, str(file))
    return Installation(document.installation, unverified)


def _false_installation(how: str) -> DeclarationInvalid:
    return DeclarationInvalid(
        f"{FILE} {how}, so that its installation may be a false one.\n"
        "Compare it with what was signed, or let its owner sign it (`cscm people sign`). Nothing was signed."
    )


def _read_root(people: Path, document: PeopleDocument) -> bytes | str:
    """Return what verifies keyless signatures, or why nothing does. `people` is the path of the people document."""
    if document.trusted_root is None:
        return f"{FILE} names no trusted root (`trusted_root`), without which no keyless signature counts"
    content = read_file(people.parent / TRUSTED_ROOT.relative_to(FILE.parent), LIMIT)
    if content is None:
        return f"there is no {TRUSTED_ROOT}, which verifies keyless signatures"
    if digest_of(content) != document.trusted_root:
        return f"{TRUSTED_ROOT} is not the one that {FILE} names (`trusted_root`)"
    return content


def parse_owner_keys(owner: str) -> tuple[Key, ...]:
    """Return the keys in the owner's PEM, none if it is blank; raise `SettingInvalid` if it is no key."""
    if not owner.strip():
        return ()
    try:
        return parse_keys(owner, "owner")
    except SettingInvalid as error:
        raise SettingInvalid(
            f"`people_owner` in the workbench block is not a public key on P-256 in PEM, so nobody can verify {FILE}.\n"
            "Write the public key of the person who signs that file there."
        ) from error
