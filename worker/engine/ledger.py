"""What an audit asks and what it learned: the words between rounds and report."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from service.contract.causes import Cause
from worker.engine.check import Measures, Mend
from worker.engine.lab.experiment import Experiment, Outcome
from worker.engine.results import Results
from worker.engine.stats.pairs import Bits, PairedGain

NOT_REACHED = "not reached within the budget"
Stage = Literal["inspect", "screen", "interact", "confirm", "remedy", "report"]


@dataclass(frozen=True)
class Ask:
    """Experiments that the audit needs next."""

    stage: Stage
    detail: str
    experiments: tuple[Experiment, ...]


Yielded = TypeVar("Yielded")
Answers = dict[str, Outcome]  # by the experiments' digests
Round = Generator[Ask, Answers, Yielded]
First = TypeVar("First")
Second = TypeVar("Second")
Both = Generator[Ask, Answers, tuple[First, Second]]


def side_by_side(first: Round[First], second: Round[Second]) -> Both[First, Second]:
    """Run two rounds that need nothing of each other, asking for both at once.

    So that several workers have something to do. The first goes on first, always, as
    what a ledger holds must not depend on who is faster.
    """
    rounds: tuple[Round[First] | Round[Second], ...] = (first, second)
    ended: dict[int, First | Second] = {}
    answers: Answers | None = None
    while True:
        asks: list[Ask] = []
        for at, one in enumerate(rounds):
            if at in ended:
                continue
            try:
                asks.append(next(one) if answers is None else one.send(answers))
            except StopIteration as end:
                ended[at] = end.value
        if not asks:
            return ended[0], ended[1]  # type: ignore[return-value]
        wanted = {e.digest(): e for ask in asks for e in ask.experiments}
        answers = yield Ask(asks[0].stage, asks[0].detail, tuple(wanted.values()))


@dataclass(frozen=True)
class Entry:
    """One experiment that was run, for the report.

    Attributes:
        digests: of the experiments that it was asked as: itself, or its pieces.
    """

    identity: str
    experiment: Experiment
    outcome: Outcome
    digests: tuple[str, ...]


@dataclass(frozen=True)
class Untried:
    """An arm, by name, that there was no time for."""

    arm: str


@dataclass(frozen=True)
class Unconfirmed:
    """A combination, by name, of which only a part could be confirmed."""

    arm: str
    kept: str


@dataclass(frozen=True)
class LeftOut:
    """An arm, by name, whose network failed."""

    arm: str
    why: str


Remark = str | Untried | Unconfirmed | LeftOut


@dataclass
class Ledger:
    """Everything an audit asked and learned, in order.

    Attributes:
        entries: what was run.
        limits: what keeps the audit from saying more.
    """

    entries: list[Entry] = field(default_factory=list)
    limits: list[Remark] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """What the experiments took."""
        return sum(entry.outcome.seconds for entry in self.entries)


@dataclass(frozen=True)
class Learned:
    """What the rounds yielded; `conclusion.py` turns it into the report.

    Attributes:
        obstacles: causes that cannot be judged, and why.
        mends: what was tried, by cause.
        screen, confirm: results of the rounds; screen is None where the network could
            not be trained anew, confirm where nothing survived.
        together: the best combination that the screen found.
        narrowed: what of it was taken apart in the end.
        chosen: what of it fresh seeds bore out.
        repaired: what the repaired model was given: that, and what else did it good.
        best: the best mend of each cause that was tried.
        remedy: the repaired model, trained; None where there is none.
        mended: the delivered weights in a mended delivery; None likewise.
        subsample: training rows that the experiments used, None where all.
        better_on_spared: how much better the baseline does on training rows that it
            did not see than on held-out rows; None where none were left out.
        counted: bool, (rows,), which held-out rows decide, by split; a split of which
            all do is left out.
        room: upper end of what any change could gain over the baseline; None where that
            was not trained.
    """

    measures: Measures
    obstacles: Mapping[Cause, str]
    mends: Mapping[Cause, Sequence[Mend]]
    ledger: Ledger
    signal: bool
    screen: Results | None = None
    confirm: Results | None = None
    together: tuple[Mend, ...] = ()
    narrowed: tuple[Mend, ...] = ()
    chosen: tuple[Mend, ...] = ()
    repaired: tuple[Mend, ...] = ()
    best: Mapping[Cause, Mend] = field(default_factory=dict)
    remedy: Entry | None = None
    mended: Entry | None = None
    crashed: Mapping[Cause, str] = field(default_factory=dict)
    subsample: int | None = None
    skipped: Mapping[Cause, str] = field(default_factory=dict)
    better_on_spared: PairedGain | None = None
    room: float | None = None
    counted: Mapping[str, Bits] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What `advance` answers: the experiments that are missing, or what was learned."""

    stage: Stage
    fraction: float
    detail: str
    experiments: tuple[Experiment, ...] = ()
    learned: Learned | None = None
