"""notify: owners and operators get each message once a day, through the block of the workbench."""

from datetime import timedelta
from itertools import count, islice
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.blocks.core import Block
from prefect.client.schemas.actions import VariableCreate
from prefect.variables import Variable

from orchestration import notifications as module
from orchestration.notifications import MOST, notify


@pytest.fixture
async def notified(machine, monkeypatch, make):
    """Record the notifications with their block, and control the clock."""
    heard, clock = [], [make.noon]

    async def load(name):
        async def notify(body, subject):
            heard.append((name, subject, body))

        return SimpleNamespace(notify=notify)

    monkeypatch.setattr(Block, "aload", load)
    monkeypatch.setattr(module, "read_clock", lambda: clock[0])
    monkeypatch.setattr(module, "SENT", f"told_{uuid4().hex}")  # the server is shared
    return SimpleNamespace(heard=heard, clock=clock, block="kind/name")


async def dates_in(name):
    """Return what a variable of the module holds."""
    value = await Variable.aget(name)
    assert isinstance(value, dict)
    return value


class Variables:
    """Prefect's variables without a server, with the same validation."""

    def __init__(self):
        self.values = {}

    async def aget(self, name):
        return self.values.get(name)

    async def aset(self, name, value, *, overwrite):
        assert overwrite
        self.values[name] = VariableCreate(name=name, value=value).value


def together():
    """Return texts that are stored in the same variable."""
    name, _ = module._place("0")
    return (text for text in map(str, count()) if module._place(text)[0] == name)


async def test_same_notification_is_sent_once_a_day(notified):
    """It is sent again after a day; a message without `once` is sent each time."""
    for _ in range(2):
        await notify("drift", "it differs", notified.block, once="a")
    await notify("drift", "another", notified.block, once="b")
    assert notified.heard == [("kind/name", "drift", "it differs"), ("kind/name", "drift", "another")]
    notified.clock[0] += timedelta(days=1, seconds=1)
    await notify("drift", "it differs", notified.block, once="a")
    for _ in range(2):
        await notify("rescan", "worse", notified.block)
    assert [body for _, _, body in notified.heard[2:]] == ["it differs", "worse", "worse"]


async def test_notification_can_be_remembered_for_longer(notified):
    """A waiver that expires soon does so for a week."""
    for days in (0, 1, 8, 2):
        notified.clock[0] += timedelta(days=days)
        await notify("waiver", "expires soon", notified.block, once="a", again_after=timedelta(days=10))

    assert len(notified.heard) == 2


async def test_old_notifications_are_forgotten(notified):
    """The stored list must not grow forever."""
    texts = list(islice(together(), 3))
    for text in texts:
        await notify("s", "b", notified.block, once=text)
        notified.clock[0] += timedelta(hours=20)
    name, _ = module._place(texts[0])
    assert set(await dates_in(name)) == {module._place(text)[1] for text in texts[1:]}


async def test_thousands_of_notifications_in_one_day_are_each_sent_once(notified, monkeypatch):
    """One vulnerability can change the verdicts of thousands of images."""
    monkeypatch.setattr(module, "Variable", Variables())
    for _ in range(2):
        for number in range(3000):
            await notify("s", str(number), notified.block, once=f"What happened to {number}, Ä?\n")
        notified.clock[0] += timedelta(hours=1)
    assert [body for _, _, body in notified.heard] == [str(number) for number in range(3000)]


async def test_full_variable_keeps_newest_notifications(notified):
    """The size of a variable is limited; a forgotten message may be sent again."""
    texts = list(islice(together(), MOST + 2))
    name, _ = module._place(texts[0])
    old = {module._place(text)[1]: int(notified.clock[0].timestamp()) + at for at, text in enumerate(texts[:-2])}
    await Variable.aset(name, old)
    notified.clock[0] += timedelta(hours=1)
    for _ in range(2):
        for text in texts[-2:]:
            await notify("s", text, notified.block, once=text)
    assert [body for _, _, body in notified.heard] == texts[-2:]
    assert set(await dates_in(name)) == {module._place(text)[1] for text in texts[2:]}


@pytest.mark.parametrize("value", ["told", ["a"], {"a": "yesterday"}])
async def test_invalid_variable_value_is_replaced(notified, value):
    """The message is sent, and the variable is written again."""
    name, key = module._place("a")
    await Variable.aset(name, {key: value["a"]} if isinstance(value, dict) else value)
    for _ in range(2):
        await notify("s", "b", notified.block, once="a")
    assert len(notified.heard) == 1 and set(await dates_in(name)) == {key}
