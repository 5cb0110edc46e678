"""The copy itself: from one end to the other, page by page."""

from __future__ import annotations

from contextlib import aclosing

from chatd.copying.ahead import ahead
from chatd.copying.ends import Source, Target
from chatd.copying.progress import OnSteps, Progress
from chatd.copying.records import PAGE, Order
from chatd.copying.refused import CopyRefused
from chatd.models import Conversation, Message, Record


async def copy(source: Source, target: Target, on_steps: OnSteps, *, resume: bool) -> None:
    """Have everything of the source taken over by the target.

    With ``resume`` messages that are there already are passed over, but for the last one of each
    conversation; everything else is taken over again. Raises `CopyRefused` or `Unavailable`.
    """
    progress, order = Progress(on_steps), Order()
    known = _Known(target) if resume else None
    async with aclosing(ahead(source.pages())) as pages:
        async for records in pages:
            _check(order, records)
            fresh = await known.without(records) if known else records
            for start in range(0, len(fresh), PAGE):
                await target.load(fresh[start : start + PAGE])
            progress.passed(records)
    await target.finish()


def _check(order: Order, records: list[Record]) -> None:
    try:
        for record in records:
            order.check(record)
    except ValueError as error:
        raise CopyRefused(
            f"{error}: either it was taken away just now, or the store is damaged; "
            "`chatd doctor` tells"
        ) from None


class _Known:
    """The messages that a copy which broke off has brought to the target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._conversation: Conversation | None = None
        self._last: Message | None = None
        # Of the page that was being written any part may be there; all before it is.
        self._page: dict[int, Message] = {}
        self._whole_before = 0

    async def without(self, records: list[Record]) -> list[Record]:
        """Those of the records that are not there yet, and each last message that is."""
        return [record for record in records if not await self._has(record)]

    async def _has(self, record: Record) -> bool:
        if not isinstance(record, Message):
            return False
        if record.conversation != self._conversation:
            await self._look_at(record.conversation)
        last = self._last
        if last is None or record.seq > last.seq:
            return False
        if record.seq == last.seq and record.id != last.id:
            raise CopyRefused(
                f"what is there is no part of this copy: message {last.seq} of"
                f" {record.conversation} is another one; copy to an empty place instead"
            )
        if record.seq < self._whole_before:
            return True
        return record.seq != last.seq and self._page.get(record.seq) == record

    async def _look_at(self, conversation: Conversation) -> None:
        found = await self._target.last_messages(conversation)
        self._conversation = conversation
        self._last = found[-1] if found else None
        self._page = {message.seq: message for message in found}
        self._whole_before = found[0].seq if len(found) == PAGE else 0
