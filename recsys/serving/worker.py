"""One thread that owns the model: requests wait in a bounded queue and are answered in batches."""

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, NamedTuple, TypeVar

from prometheus_client import Histogram

from recsys.errors import RecsysError

MAX_BATCH: Final = 64
#: Seconds at one batch, or one call, after which the thread hangs.
HANGS_AFTER_S: Final = 60.0
#: Seconds that a batch waits for more, once others are waiting too.
_LINGER_S: Final = 0.002

T = TypeVar("T")
A = TypeVar("A")


class QueueFullError(RecsysError):
    """More is request than can be answered."""


class DeadlineError(RecsysError):
    """A request waited longer than anybody would wait for its answer."""


class Waiting(NamedTuple):
    """A request, or a function to be called, with the future of its answer."""

    request: Any
    function: Callable[..., Any] | None
    future: asyncio.Future[Any] | concurrent.futures.Future[Any]
    loop: asyncio.AbstractEventLoop | None
    arrived: float


class Worker(Generic[T, A]):
    """Answers requests by ``answer``, which gets up to ``MAX_BATCH`` at a time, on one thread."""

    def __init__(
        self,
        answer: Callable[[Sequence[T]], Sequence[A | Exception]],
        *,
        start: Callable[[], None] = lambda: None,
        most_waiting: int = 64,
        deadline_s: float = 2.0,
        wait: Histogram | None = None,
        size: Histogram | None = None,
    ) -> None:
        """Take what is called once on the thread, how many may wait, and how long; ``wait`` and ``size`` hear of it."""
        self._answer, self._start, self.deadline_s = answer, start, deadline_s
        self._wait, self._size = wait, size
        self.most_waiting = most_waiting
        self._begun: float | None = None  # when it took up what it is at
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def is_answering(self) -> bool:
        """Return whether what is asked will be answered, however many wait: the thread is there and does not hang."""
        begun = self._begun
        return self._thread.is_alive() and (begun is None or time.perf_counter() - begun < HANGS_AFTER_S)

    def require_room(self) -> None:
        """Raise QueueFullError where too many wait."""
        if self._queue.qsize() >= self.most_waiting:
            raise QueueFullError(f"{self.most_waiting} requests are waiting; expected fewer; try again in a second")

    def submit(self, request: T) -> Awaitable[A]:
        """Return the answer to come; QueueFullError where too many wait."""
        self.require_room()
        return self.put(request)

    def call(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:  # noqa: ANN401 - of any kind
        """Return what ``function`` gives on the thread that owns the model, alone."""
        self.require_room()
        return self.put(args, function)

    def put(self, request: Any, function: Callable[..., Any] | None = None) -> asyncio.Future[Any]:  # noqa: ANN401
        """Return the answer to come, to one of several requests that were let in together or of a ``function``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.put(Waiting(request, function, future, loop, time.perf_counter()))
        return future

    def run(self, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - of any kind
        """Return what ``function`` gives there, for a thread of its own that has no event loop."""
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._queue.put(Waiting(args, function, future, None, time.perf_counter()))
        return future.result()

    def close(self) -> None:
        """Answer what is waiting, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        self._start()
        ahead: Waiting | None = None
        while (first := ahead or self._queue.get()) is not None:
            ahead, self._begun = None, time.perf_counter()
            if first.function is not None:
                _deliver([first], [_result(first.function, *first.request)])
                self._begun = None
                continue
            batch = [first]
            patient = not self._queue.empty()
            until = time.perf_counter() + _LINGER_S
            while len(batch) < MAX_BATCH and patient:
                try:
                    following = self._queue.get(timeout=max(until - time.perf_counter(), 0))
                except queue.Empty:
                    break
                if following is None or following.function is not None:
                    if following is None:
                        self._queue.put(None)
                    ahead = following
                    break
                batch.append(following)
            self._answer_batch(batch)
            self._begun = None

    def _answer_batch(self, batch: list[Waiting]) -> None:
        now = time.perf_counter()
        late = [one for one in batch if now - one.arrived > self.deadline_s]
        _deliver(late, [DeadlineError(f"the request waited {self.deadline_s} s; expected less; try again")] * len(late))
        batch = [one for one in batch if now - one.arrived <= self.deadline_s and not one.future.cancelled()]
        if self._wait is not None and self._size is not None:
            for one in batch:
                self._wait.observe(now - one.arrived)
            self._size.observe(len(batch))
        if not batch:
            return
        answers = _result(self._answer, [one.request for one in batch])
        if isinstance(answers, Exception) and not isinstance(answers, RecsysError) and len(batch) > 1:
            for one in batch:  # a mistake of ours that one request brings out must not fail the others
                self._answer_batch([one])
            return
        _deliver(batch, [answers] * len(batch) if isinstance(answers, Exception) else answers)


def _result(function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - of any kind
    try:
        return function(*args)
    except Exception as error:
        return error


def _deliver(batch: Sequence[Waiting], answers: Sequence[Any]) -> None:
    """Hand each answer, or error, to whoever waits for it: once for each event loop."""

    def deliver() -> None:
        for one, answer in zip(batch, answers, strict=True):
            if one.future.done():
                continue
            if isinstance(answer, Exception):
                one.future.set_exception(answer)
            else:
                one.future.set_result(answer)

    if not batch:
        return
    loop = batch[0].loop
    if loop is None:
        deliver()
    else:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(deliver)
