"""Flow `isolate`: quarantine an application, preserve evidence, and roll back or scale to zero."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact

from blocks.execution_ports import ExecutionPorts
from orchestration.clock import read_clock
from orchestration.locks import LockKind, lock_name, run_lock
from orchestration.notifications import notify
from orchestration.run_names import name_run_by_parameters
from orchestration.run_states import complete_as
from supply_chain.evidence.personal_decision import Words
from supply_chain.execution.isolation.case import Case
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.reports import isolation_page
from supply_chain.reports.text import make_artifact_key
from supply_chain.text import sanitize_text
from tasks.isolate import preserve_step, quarantine_step, recover_step


@flow(name="isolate", flow_run_name=name_run_by_parameters)
async def isolate(
    environment: str, application: str, reason: Words, by: Words, since: datetime | None = None
) -> IsolationRecord:
    """Isolate an application: no traffic in or out. What it left is sealed as evidence, then the environment recovers.

    After an interruption, start it again: it continues. The run ends as Exposed if a network policy of somebody else
    still lets traffic through.

    Args:
        environment: The environment, which has to be in a cluster.
        application: The application.
        reason: The reason. It is signed.
        by: Who decided, as typed. It is signed.
        since: The time of the event from which the time to the isolation is measured. If empty, now.
    """
    begun = read_clock()
    ports = await ExecutionPorts.aload()
    document, isolation = await ports.load_isolation(environment)
    document.placement(application)  # raises for a name that nobody knows here
    request = Case(
        id=uuid4().hex[:8],
        environment=document.name,
        application=application,
        by=by,
        reason=reason,
        since=since or begun,
    )
    case = await quarantine_step(request, isolation)  # a deployment that is under way may hold the lock for minutes
    async with run_lock(lock_name(LockKind.DEPLOY, document.name, application)):
        case = await quarantine_step(case, isolation)  # also what that deployment started meanwhile
        record = await preserve_step(case, isolation)
        record = await recover_step(case, record, document, isolation)
    subject = sanitize_text(f"{application} in {document.name} was isolated: {record.recovery}")
    page = isolation_page(record)
    await acreate_markdown_artifact(key=make_artifact_key("isolation", application), markdown=page, description=subject)
    await notify(subject, page, ports.workbench.notify, once=record.id)
    if record.allowing_policies:
        return complete_as("Exposed", f"still allowed: {', '.join(record.allowing_policies)}", record)
    return record
