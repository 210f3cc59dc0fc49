"""What every round of an audit needs: seeds, rows, time left, costs, and trainings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from service.contract.causes import Cause
from worker.engine.lab.experiment import (
    Arm,
    Change,
    Experiment,
    Outcome,
    Training,
    TrainingOutcome,
)
from worker.engine.ledger import (
    Answers,
    Ask,
    Entry,
    Ledger,
    LeftOut,
    Remark,
    Round,
    Stage,
)
from worker.engine.planning import Costs, Effort, effort_for, group
from worker.engine.results import BASELINE, Results, collect
from worker.engine.sharing import cut
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import Bits, PairedGain
from worker.engine.subject import Subject

Spared = Literal["none", "decide", "ignored"]
SEED_OFFSETS: dict[str, int] = {
    "screen": 0,
    "confirm": 100,
    "remedy": 200,
    "refine": 300,
    "doubt": 400,
}
SHARES = {"screen": 0.42, "interact": 0.35, "confirm": 0.7}  # of the time left then
SCREENING = ("screen", "interact")  # stages whose arms are compared with each other
LEAST_CONFIRMING = 6  # pairs with which a sign-flip test can reach p < .05
LEAST_SEEDS = 3
STRETCHED = 1.3  # times an allowance, before core arms or the last seeds are given up
STEADY, STEADY_SEEDS = 0.01, 2  # balanced accuracy; seeds that are enough then
LEAST_ARMS = 2  # the baseline and one mend
OVERRUN = 0.15  # of the budget, by which the last experiment may exceed it
OVERRUN_BEFORE = 0.05  # likewise, by those before the repaired model is trained
NEARLY_ALL = 0.75  # of the rows; fewer are not worth what a subsample cannot tell
LEAST_ROWS, LEAST_ROWS_A_CLASS = 500, 20  # of a subsample
HOPELESS = 4.0  # times the seconds left, beyond which a training is not begun
MANY_ARMS = 12  # that should fit the screen, if there are so many
TRAININGS_AFTER = 24  # by which a screen is followed: combinations, six pairs of three
PLANNED_SHARE = 0.9  # of the time left, that all of these may take
FOLDS = 5  # parts of the training rows that seeds leave out in turn


class Trainer:
    """Plans and asks for the trainings of one audit, and keeps its ledger.

    Attributes:
        costs: what a training is thought to take, corrected by what trainings took.
        rows: training rows that the rounds use, None where all.
        start: changes before those of any arm: the subject's own initialisation.
        spared: what becomes of training rows that seeds leave out in turn: `none` are
            left out, they `decide` beside the held-out ones, or they are `ignored`
            from now on, being unlike those.
        better_on_spared: how much better the baseline does on training rows that it
            did not see than on held-out rows; None where none are left out.
        counted: which held-out rows decide, by split, where not all of them do.
        noise: share of wrong labels among them, 0 where they are not doubted.
        arms: how many will be screened, as far as is known.
        missing: balanced accuracy that a cheap learner has and the delivered model has
            not, where it is far off; then twice as many arms should fit, from fewer
            rows.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.effort: Effort = effort_for(subject.budget, subject.budget_seconds)
        self.floors = Floors()
        self.ledger = Ledger()
        self.costs = Costs(0.0, 1e-3)
        self.rows: int | None = None
        self.start: tuple[Change, ...] = ()
        self.spared: Spared = "none"
        self.better_on_spared: PairedGain | None = None
        self.counted: Mapping[str, Bits] = {}
        self.noise = 0.0
        self.arms = MANY_ARMS
        self.missing = 0.0
        self._screen_seeds = self.effort.screen_seeds

    @property
    def screening_seeds(self) -> tuple[int, ...]:
        """Seeds of the first look, and of combinations beside it."""
        return self.seeds("screen", self._screen_seeds)

    def seeds(self, stage: str, count: int) -> tuple[int, ...]:
        """Seeds of a round; no two rounds share any."""
        first = self.subject.seed * 1000 + SEED_OFFSETS[stage]
        return tuple(first + i for i in range(count))

    @property
    def left(self) -> float:
        """Seconds that the budget still holds."""
        return max(1.0, self.effort.seconds - self.ledger.seconds)

    def at_most(self, stage: str) -> float:
        """Seconds after which an experiment is stopped, however little it has done.

        The repaired model is trained last, and once at least.
        """
        share = OVERRUN if stage == "remedy" else OVERRUN_BEFORE
        return self.left + share * self.effort.seconds

    def allowance(self, stage: str) -> float:
        """Seconds that a round may take of the time left."""
        return SHARES[stage] * self.left

    def cost(
        self, arms: Sequence[Arm], seeds: tuple[int, ...], *, full: bool = False
    ) -> float:
        """Predict the seconds that arms take; `full`: on all training rows."""
        rows = None if full else self.rows
        return self.costs.of(self.subject, _planned(arms, seeds, rows))

    def added_cost(
        self, arms: Sequence[Arm], arm: Arm, seeds: tuple[int, ...]
    ) -> float:
        """Predict the seconds that one more arm takes beside others."""
        training = _planned(arms, seeds, self.rows)
        return self.costs.of_adding(self.subject, training, arm)

    def fit(
        self,
        arms: list[Arm],
        seeds: tuple[int, ...],
        allowance: float,
        *,
        core: int = LEAST_ARMS,
    ) -> tuple[list[Arm], tuple[int, ...]]:
        """Give up seeds, down to six, the last arms, then more seeds, until it fits.

        Args:
            arms: the most wanted first.
            seeds: likewise.
            allowance: seconds that they may take.
            core: arms that tell something only together; a few seeds of all of them
                are worth more than many of some.
        """
        while len(seeds) > LEAST_CONFIRMING and self.cost(arms, seeds) > allowance:
            seeds = seeds[:-1]
        while len(arms) > core and self.cost(arms, seeds) > allowance:
            arms = arms[:-1]
        most = STRETCHED * allowance
        while len(seeds) > LEAST_SEEDS and self.cost(arms, seeds) > most:
            seeds = seeds[:-1]
        while len(arms) > LEAST_ARMS and self.cost(arms, seeds) > most:
            arms = arms[:-1]
        return arms, seeds

    def may_confirm(self, arms: Sequence[Arm]) -> bool:
        """Whether there is time to confirm all of these, from a few seeds at least."""
        seeds = self.seeds("confirm", LEAST_SEEDS)
        return self.cost(arms, seeds) <= STRETCHED * self.allowance("confirm")

    def limit_effort(self) -> None:
        """Look from fewer seeds, then at fewer rows, where a dozen arms do not fit.

        A first look only chooses what is confirmed from many fresh seeds. To have tried
        a mend from one seed is worth more than to have tried a third of them from
        three.
        """
        if self.rows is not None:
            return
        allowance = self.allowance("screen")
        while self._screen_seeds > 1 and self._cost_of(MANY_ARMS) > allowance:
            self._screen_seeds -= 1
        self.rows = self._fewer_rows()

    def limit_seeds(self, spread: float) -> None:
        """Look from fewer seeds where the recipe yields the same from each.

        Not where that is next to nothing: what mends it may vary.

        Args:
            spread: deviation of its balanced accuracy from seed to seed.
        """
        if spread <= STEADY and not self.missing:
            self._screen_seeds = min(self._screen_seeds, STEADY_SEEDS)

    def look_from(self, seeds: int) -> None:
        """Screen, and combine, from so many seeds from now on."""
        self._screen_seeds = seeds

    def _cost_of(self, many: int) -> float:
        """Seconds that so many arms of the screen take, or all if they are fewer."""
        return min(self.arms, many) * self._one(self.screening_seeds)

    def _one(self, seeds: tuple[int, ...]) -> float:
        return self.cost([Arm(name=BASELINE)], seeds)

    def _fewer_rows(self) -> int | None:
        rows = self.subject.data.rows["train"]
        screen = self._cost_of(MANY_ARMS * (2 if self.missing else 1))
        later = TRAININGS_AFTER * self._one(self.screening_seeds[:1])
        share = min(
            self.allowance("screen") / max(1e-9, screen),
            PLANNED_SHARE * self.left / max(1e-9, screen + later),
        )
        if share >= 1:
            return None
        fewer = max(self._least_rows, int(rows * share))
        batch = self.subject.recipe.batch_size
        if fewer >= batch:
            # The last batch stays as full as it is: few rows upset a batch norm.
            fewer += rows % batch - fewer % batch
        if fewer >= NEARLY_ALL * rows:
            return None
        self.limit(
            f"Experiments trained on {fewer} of {rows} training rows to keep the "
            "budget; gains hold for that size."
        )
        return fewer

    @property
    def _least_rows(self) -> int:
        """Rows below which no subsample goes."""
        return max(LEAST_ROWS, LEAST_ROWS_A_CLASS * self.subject.data.classes)

    def train(
        self, stage: Stage, question: str, arms: Sequence[Arm], seeds: tuple[int, ...]
    ) -> Round[Results]:
        """Train arms in as few experiments as their networks allow."""
        arms = [self.begun(arm) for arm in arms]
        # The screen's arms must all have learned from the same rows.
        leaves_out = self.spared == "decide" or (
            self.spared == "ignored" and stage in SCREENING
        )
        trainings = [
            Training(
                round=stage,
                question=question,
                arms=tuple(stack),
                seeds=seeds,
                rows=self.rows,
                folds=FOLDS if leaves_out else None,
                max_seconds=self.at_most(stage),
            )
            for stack in group(arms)
        ]
        results = self._collected((yield from self.ask(stage, question, trainings)))
        if self.spared != "decide":
            return results.held_out_only()
        if self.noise:
            return results.corrected(self.noise, self.subject.data.classes)
        return results

    def ask(
        self, stage: Stage, detail: str, trainings: Sequence[Training]
    ) -> Round[list[Entry]]:
        """Ask for trainings, each of one stack, in pieces that workers can share."""
        cuts = [cut(self.subject, training, self.costs) for training in trainings]
        pieces = tuple(piece for one in cuts for piece in one.pieces)
        answers = yield Ask(stage, detail, pieces)
        return [self._noted(*one.joined(answers), one.digests) for one in cuts]

    def begun(self, arm: Arm) -> Arm:
        """Put the subject's own initialisation before an arm's changes."""
        return arm.model_copy(update={"changes": (*self.start, *arm.changes)})

    def note(self, experiments: Sequence[Experiment], answers: Answers) -> list[Entry]:
        """Enter what was asked and answered; learn from what it took."""
        return [
            self._noted(experiment, answers[digest], (digest,))
            for experiment in experiments
            for digest in [experiment.digest()]
        ]

    def _noted(
        self, experiment: Experiment, outcome: Outcome, digests: tuple[str, ...]
    ) -> Entry:
        identity = f"exp_{len(self.ledger.entries) + 1:03d}"
        entry = Entry(identity, experiment, outcome, digests)
        self.ledger.entries.append(entry)
        if isinstance(experiment, Training):
            self.costs.learn(self.subject, experiment, outcome.seconds)
        for remark in outcome.notes:
            self.limit(remark)
        if isinstance(outcome, TrainingOutcome):
            for arm in outcome.arms:
                if arm.unforeseen and arm.failure:
                    self.limit(LeftOut(arm.name, arm.failure))
        return entry

    def limit(self, remark: Remark) -> None:
        """Say once, in the report, what keeps the audit from saying more."""
        if remark not in self.ledger.limits:
            self.ledger.limits.append(remark)

    @property
    def too_slow(self) -> str | None:
        """Why no training by the recipe is worth beginning, None where one is.

        Stopped at a small part of its updates, it says nothing of the whole.
        """
        seconds = self._one(self.screening_seeds[:1])
        rows = self.subject.data.rows["train"]
        seconds *= min(1.0, self._least_rows / rows)
        if seconds <= HOPELESS * self.left:
            return None
        return (
            f"a training takes about {seconds:.0f} s, and {self.left:.0f} s of the "
            "budget are left; ask for more"
        )

    def not_anew(self, mends: Iterable[Cause], why: str) -> dict[Cause, str]:
        """Say that the network cannot be trained; returns that for every cause."""
        self.limit(f"The network could not be trained anew: {why}.")
        return dict.fromkeys(mends, f"the network could not be trained anew: {why}")

    def _collected(self, entries: Sequence[Entry]) -> Results:
        ran = [
            (e.identity, e.experiment, e.outcome)
            for e in entries
            if isinstance(e.experiment, Training)
            and isinstance(e.outcome, TrainingOutcome)
        ]
        labels = self.subject.labels
        counted = self.counted.get("decide")
        return collect(ran, labels["decide"], labels.get("train"), counted)


def _planned(arms: Sequence[Arm], seeds: tuple[int, ...], rows: int | None) -> Training:
    return Training(round="", question="", arms=tuple(arms), seeds=seeds, rows=rows)
