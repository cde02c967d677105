"""What takes seconds is made on other threads, before it is asked for or while one request waits for it alone."""

import asyncio
import datetime as dt
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from recsys.data.days import day_number
from recsys.modeling.recommenders.registry import BASELINES
from recsys.modeling.rule_system import fit_rule
from recsys.serving.answers import Answers
from recsys.serving.schemas import Recommend
from recsys.serving.worker import QueueFullError, Worker

#: Seconds between two looks at which days may come next.
_PAUSE_S: Final = 2.0
#: Days from the newest purchase to now up to which the clock tells the next day: a shop that is closed for a while.
_LONGEST_PAUSE_DAYS: Final = 14
#: Requests that may wait for another day or a rule; days and rules of a batch that are needed at once.
_MOST_WAITING, _MOST_NEEDS = 8, 3


class Ahead:
    """Counts the days that may be asked next, and what single requests ask for: another date, a rule."""

    def __init__(self, answers: Answers, worker: Worker[Any, Any]) -> None:
        self._answers, self._worker = answers, worker
        self._one_at_a_time, self._n_waiting = asyncio.Lock(), 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._count_next_days, name="ahead", daemon=True)
        self._thread.start()

    async def prepare(self, request: Recommend) -> None:
        """Make what a request needs besides a model, if it is not there; nobody else waits."""
        answers, day = self._answers, self._answers.jobs.day_of(request)
        if day <= answers.live.base.first_day:
            return  # it is refused
        await self.count(day)
        if request.system in BASELINES:
            async with self._turn():
                known = await self._worker.call(answers.known_to_rule, request.system, day)
                if known is not None:
                    config = answers.served[answers.current].config
                    rule = await asyncio.to_thread(fit_rule, request.system, config, known.histories)
                    await self._worker.call(answers.rules.keep, request.system, known, rule)

    async def count(self, day: int) -> None:
        """Count a day, if it is not there."""
        live = self._answers.live
        if not live.is_counted(day):
            async with self._turn():
                if not live.is_counted(day):
                    await self._worker.call(live.adopt, await asyncio.to_thread(live.count, day))

    def groups(self, requests: Sequence[Recommend]) -> Iterator[list[Recommend]]:
        """Yield requests, in order, so that what each group needs is kept until it is answered."""
        group: list[Recommend] = []
        needs: set[tuple[str, int]] = set()
        for request in requests:
            own = request.system, self._answers.jobs.day_of(request)
            if len(needs | {own}) > _MOST_NEEDS:
                yield group
                group, needs = [], set()
            group.append(request)
            needs.add(own)
        yield group

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._n_waiting >= _MOST_WAITING:
            raise QueueFullError(f"{_MOST_WAITING} requests wait for other days or rules; try again in a second")
        self._n_waiting += 1
        try:
            async with self._one_at_a_time:
                yield
        finally:
            self._n_waiting -= 1

    def close(self) -> None:
        """End the thread."""
        self._ends.set()
        self._thread.join()

    def _count_next_days(self) -> None:
        """Count the day after the newest, and tomorrow: the first purchase of a day finds its tables counted."""
        live, pause = self._answers.live, 0.0
        while not self._ends.wait(pause):
            pause = _PAUSE_S
            tomorrow = day_number(dt.datetime.now().date()) + 1  # by the shop's machine
            days = {live.day + 1, tomorrow if 0 < tomorrow - live.day <= _LONGEST_PAUSE_DAYS else live.day + 1}
            for day in sorted(days):
                if not live.is_counted(day) and not self._ends.is_set():
                    try:
                        self._worker.run(live.adopt, live.count(day))
                    except Exception:  # it is counted when it is asked for, and says there what is wrong
                        logging.getLogger(__name__).exception("a day could not be counted ahead")
                        return
