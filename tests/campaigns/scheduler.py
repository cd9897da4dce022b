"""Runs executions one at a time, in an order drawn from a seed, and kills some of them.

An execution is a thread that runs real code. Each request to a storage is a point: the execution
stops there, and the scheduler chooses which one continues. So a seed gives the same order again.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

_LONGEST_WAIT = 120.0
"""Seconds; an execution that comes to no point for so long hangs."""
_LAST_STEPS = 60_000


class Died(BaseException):
    """Raised in an execution that was killed, at each of its points from then on."""


class State(Enum):
    """Where an execution is. HELD: it continues only when it is woken."""

    READY = "ready"
    HELD = "held"
    DONE = "done"
    DEAD = "dead"


@dataclass(eq=False)
class Execution:
    """A thread under the scheduler. group: the process that it belongs to.

    blocked: it continues when this is true. frozen: until which step it does not continue.
    mortal: whether it may be killed alone.
    """

    name: str
    group: Any
    action: Callable[[], Any]
    mortal: bool = True
    state: State = State.READY
    blocked: Callable[[], bool] | None = None
    frozen: int = 0
    priority: float = 0.0
    killed: bool = False
    request: str = ""
    result: Any = None
    error: BaseException | None = None
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    thread: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        """Whether it will do nothing more."""
        return self.state in (State.DONE, State.DEAD)


@dataclass(frozen=True)
class Habits:
    """How an order is drawn; each rate is a probability at a point.

    stay: that the same execution continues. freeze: that it stops for a while. hold: that it stops
    until it is woken. die, die_all: that it is killed, or all of its process. By priority, the
    execution of the highest one continues, and `stay` is that it keeps its priority. aimed: that
    it stops until it is woken, or for a while, before a request of the kind `aim`.
    """

    stay: float = 0.5
    freeze: float = 0.0
    longest_freeze: int = 100
    hold: float = 0.0
    die: float = 0.0
    die_all: float = 0.0
    by_priority: bool = False
    aim: str = ""
    aimed: float = 0.0


class Scheduler:
    """Which execution continues, and what each of them asks for.

    on_step: called after each step. alone: executions stop at no point, only where they wait.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.habits = Habits()
        self.executions: list[Execution] = []
        self.trace: list[str] = []
        self.step = 0
        self.deaths = 0
        self.alone = False
        self.on_step: Callable[[Execution], None] = lambda _: None
        self._by_thread: dict[int, Execution] = {}
        self._back = threading.Semaphore(0)
        self._last: Execution | None = None

    @property
    def current(self) -> Execution | None:
        """The execution that this thread is; None outside."""
        return self._by_thread.get(threading.get_ident())

    def start(
        self, name: str, group: Any, action: Callable[[], Any], *, held: bool = False, **more: Any
    ) -> Execution:
        """Adds an execution; it begins when it is chosen. held: it has to be woken first."""
        execution = Execution(name, group, action, **more)
        execution.state = State.HELD if held else State.READY
        execution.priority = self.rng.random()
        execution.thread = threading.Thread(target=self._run, args=(execution,), daemon=True)
        self.executions.append(execution)
        return execution

    def _run(self, execution: Execution) -> None:
        self._by_thread[threading.get_ident()] = execution
        execution.go.acquire()
        try:
            if execution.killed:
                raise Died
            execution.result = execution.action()
            self.point("ends", "")
            execution.state = State.DONE
        except Died:
            execution.state = State.DEAD
        except BaseException as error:  # noqa: BLE001  # It is looked at by whoever waits for it.
            execution.error = error
            execution.state = State.DONE
        del self._by_thread[threading.get_ident()]
        self._back.release()

    def point(self, request: str, path: str) -> None:
        """Stops the execution that asks for this, until it is chosen again."""
        execution = self.current
        if execution is None:
            return
        execution.request = request
        if not execution.killed and not (self.alone and request):
            self._pass_on(execution)
        if execution.killed:
            raise Died
        if request:
            self.trace.append(f"{self.step:5d} {execution.name:24s} {request:9s} {path}")

    def wait(self, until: Callable[[], bool]) -> None:
        """Stops the execution that calls this until something is true."""
        execution = self.current
        assert execution is not None
        execution.blocked = until
        self.point("", "")

    def forget(self) -> None:
        """Forgets the executions that are over, and what they asked for."""
        self.executions = [one for one in self.executions if not one.is_over]
        self.trace.clear()
        self.step = 0

    def note(self, text: str) -> None:
        """Adds a line to the trace."""
        self.trace.append(f"{self.step:5d} {text}")

    def _pass_on(self, execution: Execution) -> None:
        self._back.release()
        execution.go.acquire()

    def kill(self, execution: Execution) -> None:
        """Ends an execution where it is; it asks a storage for nothing more."""
        if execution.is_over:
            return
        execution.killed = True
        execution.state = State.READY
        self.note(f"{execution.name} DIES")
        self.deaths += 1
        if execution.thread is not None and execution.thread.ident is None:
            execution.state = State.DEAD  # It never began.
            return
        self._continue(execution)

    def kill_group(self, group: Any) -> None:
        """Kills a process with all that runs in it."""
        for execution in [one for one in self.executions if one.group is group]:
            self.kill(execution)

    def _continue(self, execution: Execution) -> None:
        assert execution.thread is not None
        if execution.thread.ident is None:
            execution.thread.start()
        execution.go.release()
        if not self._back.acquire(timeout=_LONGEST_WAIT):
            raise TimeoutError(f"{execution.name} came to no point")
        if execution.is_over:
            execution.thread.join()
            if execution.error is not None:
                self.note(
                    f"{execution.name} FAILS {type(execution.error).__name__}: {execution.error}"
                )

    def run(self, stop_at: int | None = None, only: Any = None) -> None:
        """Lets executions continue until none can, or until a step. only: those of a process."""
        while stop_at is None or self.step < stop_at:
            there = [
                one
                for one in self.executions
                if not one.is_over and (only is None or one.group is only)
            ]
            execution = self._next(there)
            if execution is None:
                return
            self.step += 1
            if self.step > _LAST_STEPS:
                raise TimeoutError("the executions come to no end")
            if self._is_disturbed(execution):
                continue
            self._last = execution
            self._continue(execution)
            self.on_step(execution)

    def _next(self, there: list[Execution]) -> Execution | None:
        awake = [one for one in there if one.state is State.READY]
        free = []
        for one in awake:
            if one.blocked is None or one.blocked():
                one.blocked = None
                free.append(one)
        ready = [one for one in free if one.frozen <= self.step]
        if not ready and free:
            ready = [min(free, key=lambda one: one.frozen)]
        if not ready and awake:  # They wait for a lock of one that is held.
            holders = [one for one in self.executions if one.state is State.HELD]
            if not holders:
                return None
            self.wake(holders[0])
            return holders[0]
        if not ready:
            return None
        if self.habits.by_priority:
            best = max(ready, key=lambda one: one.priority)
            if self.rng.random() > self.habits.stay:
                best.priority = self.rng.random()
            return best
        if self._last in ready and self.rng.random() < self.habits.stay:
            return self._last
        return self.rng.choice(ready)

    def _is_disturbed(self, execution: Execution) -> bool:
        """Whether something befalls an execution instead of its continuing."""
        habits, drawn = self.habits, self.rng.random()
        if execution.mortal and drawn < habits.die:
            self.kill(execution)
            return True
        drawn -= habits.die
        if 0 <= drawn < habits.die_all:
            self.kill_group(execution.group)
            return True
        drawn -= habits.die_all
        if execution.mortal and 0 <= drawn < habits.hold:
            execution.state = State.HELD
            self.note(f"{execution.name} stops")
            return True
        if execution.mortal and habits.aim and execution.request == habits.aim:
            execution.request = ""
            aimed = self.rng.random()
            if aimed < habits.aimed / 2:
                execution.state = State.HELD
                self.note(f"{execution.name} stops")
                return True
            if aimed < habits.aimed:
                execution.frozen = self.step + self.rng.randint(2, habits.longest_freeze)
                return False
        drawn -= habits.hold
        if 0 <= drawn < habits.freeze:
            execution.frozen = self.step + self.rng.randint(2, habits.longest_freeze)
        return False

    def wake(self, execution: Execution) -> None:
        """Lets one that was held continue."""
        if execution.state is State.HELD:
            execution.state = State.READY
            execution.frozen = 0
            self.note(f"{execution.name} wakes")
