"""What the trainings of a round yielded, by arm, ready to be compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from worker.engine.lab.experiment import (
    ArmOutcome,
    Training,
    TrainingOutcome,
    borrows,
    unpack_flags,
)
from worker.engine.splits import Places, lent_rows, spared_rows
from worker.engine.stats.pairs import (
    Bits,
    Floats,
    Hits,
    Labels,
    PairedGain,
    Rows,
    by_seed,
    most_to_gain,
    paired_gain,
    seed_variance,
    without_noise,
)

BASELINE = "baseline"
LEAST_SEEDS = 3  # to speak of their distribution
USUAL_SPREAD, USUAL_DEGREES = 0.1, 3.0  # of a recipe that leaves some runs short
LEAST_POINTS = 8  # of a curve, to speak of its last quarter
MEDIAN_OF_CHI_SQUARE = {1: 0.455, 2: 0.693}  # over its degrees of freedom


@dataclass(frozen=True)
class Ran:
    """One arm that was trained.

    Attributes:
        correct: (seeds, rows), hits; False where a seed did not score a row.
        experiment: id of the experiment it was part of.
        seen: bool, (seeds, rows), which seed may score which row, where others were
            lent to it; None: those that any arm is scored on.
    """

    correct: Hits
    outcome: ArmOutcome
    experiment: str
    seen: Bits | None = None

    @cached_property
    def figures(self) -> dict[str, float]:
        """What its trainings showed, on average."""
        return figures(self.outcome)


@dataclass(frozen=True)
class Results:
    """The arms of one round, trained from the same seeds, some from the first only.

    Attributes:
        rows: on which they were scored.
    """

    rows: Rows
    arms: dict[str, Ran]
    failures: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, key: str) -> bool:
        return key in self.arms

    def accuracy(self, key: str) -> float:
        """Mean balanced accuracy of an arm over its seeds."""
        return float(self.levels(key).mean())

    def levels(self, key: str) -> Floats:
        """Balanced accuracy of an arm from each seed: float64, (seeds,)."""
        correct = self.arms[key].correct
        return by_seed(correct, self.rows_of(len(correct), key))

    def gain(self, key: str, over: str = BASELINE) -> PairedGain:
        """Paired difference between two arms, over the seeds that both have."""
        after, before = self.arms[key].correct, self.arms[over].correct
        seeds = min(len(after), len(before))
        return paired_gain(
            after[:seeds],
            before[:seeds],
            self.rows_of(seeds, key, over),
            pooled_variance=self._pooled,
        )

    def rows_of(self, seeds: int, *keys: str) -> Rows:
        """Say on which rows the first seeds scored all of these arms."""
        masks = [self.rows.seen, *(self.arms[key].seen for key in keys)]
        known = [mask[:seeds] for mask in masks if mask is not None]
        if not known:
            return self.rows
        return replace(self.rows, seen=np.logical_and.reduce(known))

    def room(self, level: float, key: str = BASELINE) -> float:
        """Upper end of what any change of an arm could gain, at a confidence."""
        correct = self.arms[key].correct
        return most_to_gain(correct, self.rows_of(len(correct)), level=level)

    def gain_over_best(
        self, key: str, controls: Iterable[str], over: str = BASELINE
    ) -> PairedGain:
        """Paired difference to the best of `over` and those controls that ran."""
        return self.gain(key, over=self.best_of(controls, over))

    @property
    def best(self) -> float:
        """Balanced accuracy of the best arm."""
        return max((self.accuracy(key) for key in self.arms), default=0.0)

    def extend(self, more: "Results") -> None:
        """Put further arms from the same seeds beside these.

        The variance that intervals share stays that of the arms it was first taken
        from.
        """
        self.arms.update(more.arms)

    def joined(self, more: "Results") -> "Results":
        """The same arms, those of `more` with further seeds."""
        arms = dict(self.arms)
        arms |= {
            key: Ran(
                correct=np.concatenate([ran.correct, more.arms[key].correct]),
                outcome=ran.outcome.model_copy(
                    update={
                        "trials": ran.outcome.trials + more.arms[key].outcome.trials
                    }
                ),
                experiment=ran.experiment,
                seen=None
                if ran.seen is None or more.arms[key].seen is None
                else np.concatenate([ran.seen, more.arms[key].seen]),
            )
            for key, ran in self.arms.items()
            if key in more.arms
        }
        seen = None
        if self.rows.seen is not None and more.rows.seen is not None:
            seen = np.concatenate([self.rows.seen, more.rows.seen])
        rows = replace(self.rows, seen=seen)
        return Results(rows, arms, {**self.failures, **more.failures})

    def held_out_only(self) -> "Results":
        """The same without the training rows that were left out in turn."""
        count = self.rows.held_out
        arms = {
            key: replace(
                ran,
                correct=ran.correct[:, :count],
                seen=None if ran.seen is None else ran.seen[:, :count],
            )
            for key, ran in self.arms.items()
        }
        seen = self.rows.seen
        rows = Rows(
            self.rows.labels[:count],
            count,
            # Seeds differ in the training rows that they score, and in these alone.
            None if seen is None or seen[:, :count].all() else seen[:, :count],
        )
        return Results(rows, arms, dict(self.failures))

    def corrected(self, rate: float, classes: int) -> "Results":
        """The same with hits on rows left out in turn freed of label noise."""
        count = self.rows.held_out
        arms = {}
        for key, ran in self.arms.items():
            correct = ran.correct.astype(np.float64)
            correct[:, count:] = without_noise(
                correct[:, count:], rate=rate, classes=classes
            )
            arms[key] = replace(ran, correct=correct)
        return Results(self.rows, arms, dict(self.failures))

    def best_of(self, controls: Iterable[str], over: str = BASELINE) -> str:
        """Name the best of `over` and those controls that ran."""
        known = [over, *(arm for arm in controls if arm in self.arms)]
        return max(known, key=self.accuracy)

    def on_spared(self, key: str = BASELINE) -> tuple[Hits, Bits] | None:
        """Hits of an arm on rows left out in turn, and which seed scored which."""
        if self.rows.seen is None or self.rows.held_out == len(self.rows.labels):
            return None
        first, correct = self.rows.held_out, self.arms[key].correct
        return correct[:, first:], self.rows.seen[: len(correct), first:]

    @cached_property
    def _pooled(self) -> float:
        reference = self.arms.get(BASELINE)
        if reference is None or len(reference.correct) == 1:
            return 0.02**2  # two points, what small networks show on small data
        spreads = [
            seed_variance(
                ran.correct,
                reference.correct[: len(ran.correct)],
                self.rows_of(len(ran.correct)),
            )
            for key, ran in self.arms.items()
            if key != BASELINE and ran.seen is None
        ]
        if not spreads:
            return 0.02**2
        degrees = len(reference.correct) - 1
        # The median keeps arms that diverge from widening everybody's interval.
        return float(np.median(spreads)) / MEDIAN_OF_CHI_SQUARE.get(degrees, 0.8)


def collect(
    ran: Sequence[tuple[str, Training, TrainingOutcome]],
    labels: Labels,
    train_labels: Labels | None = None,
    counted: Bits | None = None,
) -> Results:
    """Gather the arms of a round.

    Args:
        ran: (id, experiment, outcome); seeds and folds are the same for all, but that
            some may have the first seeds only.
        labels: int64, (rows,), of the split they were scored on.
        train_labels: int64, (training rows,), where those were left out in turn.
        counted: bool, (rows,), which rows of the split count; None: all.
    """
    arms: dict[str, Ran] = {}
    failures: dict[str, str] = {}
    rows = Rows.of(labels)
    spared: list[Places] | None = None
    longest = max((t for _, t, _ in ran), key=lambda t: len(t.seeds), default=None)
    if longest is not None and longest.folds and train_labels is not None:
        parts = spared_rows(train_labels, longest.folds)
        spared = [parts[seed % len(parts)] for seed in longest.seeds]
        rows = _rows_with(labels, train_labels, spared)
    if counted is not None and longest is not None:
        rows = _of_these(rows, counted, len(longest.seeds))
    for identity, training, outcome in ran:
        borrowing = {arm.name for arm in training.arms if borrows(arm.changes)}
        for arm in outcome.arms:
            if arm.failure is not None or len(arm.trials) != len(training.seeds):
                failures[arm.name] = arm.failure or "not every seed was trained"
                continue
            seen = None
            if arm.name in borrowing:
                if train_labels is None:
                    failures[arm.name] = "there are too many training rows"
                    continue
                seen = _not_lent(rows, len(train_labels), training.seeds)
            arms[arm.name] = Ran(_bits(arm, rows, spared), arm, identity, seen)
    return Results(rows=rows, arms=arms, failures=failures)


def _rows_with(labels: Labels, train_labels: Labels, spared: Sequence[Places]) -> Rows:
    first = len(labels)
    seen = np.zeros((len(spared), first + len(train_labels)), dtype=np.bool_)
    seen[:, :first] = True
    for flags, places in zip(seen, spared, strict=True):
        flags[first + places] = True
    return Rows(np.concatenate([labels, train_labels]), first, seen)


def _of_these(rows: Rows, counted: Bits, seeds: int) -> Rows:
    """Have these held-out rows count alone, and what was left out in turn."""
    seen = rows.seen
    if seen is None:
        seen = np.ones((seeds, len(rows.labels)), dtype=np.bool_)
    counts = np.ones(len(rows.labels), dtype=np.bool_)
    counts[: rows.held_out] = counted
    return replace(rows, seen=seen & counts)


def _not_lent(rows: Rows, train: int, seeds: Sequence[int]) -> Bits:
    """Flag the rows that were not lent to each seed: bool, (seeds, rows)."""
    ways = lent_rows(rows.labels[: rows.held_out], train)
    seen = np.ones((len(seeds), len(rows.labels)), dtype=np.bool_)
    for flags, seed in zip(seen, seeds, strict=True):
        flags[: rows.held_out] = ways[seed % len(ways)][1]
    return seen


def _bits(arm: ArmOutcome, rows: Rows, spared: Sequence[Places] | None) -> Bits:
    held_out = rows.held_out
    correct = np.zeros((len(arm.trials), len(rows.labels)), dtype=np.bool_)
    for k, trial in enumerate(arm.trials):
        correct[k, :held_out] = unpack_flags(trial.correct, held_out)
        if spared is not None and trial.spared is not None:
            places = spared[k]
            correct[k, held_out + places] = unpack_flags(trial.spared, len(places))
    return correct


def figures(arm: ArmOutcome) -> dict[str, float]:
    """Average what the trials of an arm showed; figures that are missing stay out."""
    found: dict[str, list[float]] = {}
    for trial in arm.trials:
        values: dict[str, float | None] = {
            "accuracy": trial.accuracy,
            "balanced_accuracy": trial.balanced_accuracy,
            "log_loss": trial.log_loss,
            "train_accuracy": trial.train_accuracy,
            "train_balanced_accuracy": trial.train_balanced_accuracy,
            "train_loss": trial.train_loss,
            "gap": trial.train_balanced_accuracy - trial.balanced_accuracy,
            "diverged_share": float(trial.diverged),
            "late_improvement": _late_improvement(trial.curve.train_loss),
            **trial.signs,
        }
        for name, value in values.items():
            if value is not None and np.isfinite(value):
                found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _late_improvement(losses: Sequence[float | None]) -> float | None:
    """Share by which the training loss fell in the last quarter of the curve."""
    known: npt.NDArray[np.float64] = np.array(
        [loss for loss in losses if loss is not None], float
    )
    if len(known) < LEAST_POINTS or known[-len(known) // 4] <= 0:
        return None
    start = known[-max(2, len(known) // 4)]
    return float((start - known[-1]) / abs(start)) if start else None


def against_delivered(results: Results, mask: str, arm: str = BASELINE) -> PairedGain:
    """Paired difference of an arm to delivered hits packed in `mask`."""
    return paired_gain(*_beside_delivered(results, mask, arm))


def share_of_relapses(
    results: Results, mask: str, arm: str = BASELINE, *, within: float
) -> float:
    """Share of trainings by an arm that end no better than delivered hits.

    The larger of what was seen and of what a t distribution through the seeds predicts
    for one more training: a few seeds show no rare relapse. One or two do not even show
    how far seeds lie apart; then what is usual counts as well.

    Args:
        results: of a round with the arm.
        mask: the delivered model's hits on held-out rows, packed.
        arm: the recipe as it was.
        within: balanced accuracy that does not count as better.
    """
    levels, limit = _levels_and_limit(results, mask, arm, within=within)
    seen = float((levels <= limit).mean())
    degrees = float(len(levels) - 1)
    squares = float(((levels - levels.mean()) ** 2).sum())
    if len(levels) < LEAST_SEEDS:
        squares += USUAL_DEGREES * USUAL_SPREAD**2
        degrees += USUAL_DEGREES
    one_more = PairedGain(
        value=float(levels.mean()) - limit,
        error=float(np.sqrt(squares / degrees * (1 + 1 / len(levels)))),
        degrees=degrees,
        seeds=len(levels),
    )
    return max(seen, one_more.p_above(0.0))


# Of a round, the delivered model's hits on held-out rows, packed, and an arm.
TrainedAnew = tuple[Results, str, str]


def seen_to_relapse(known: Sequence[TrainedAnew], *, within: float) -> float:
    """Share of all these trainings that end no better than delivered hits."""
    found = [_levels_and_limit(*one, within=within) for one in known]
    low = [levels <= limit for levels, limit in found]
    return float(np.concatenate(low).mean())


def _levels_and_limit(
    results: Results, mask: str, arm: str, *, within: float
) -> tuple[Floats, float]:
    """Balanced accuracy from each seed, and up to which it is no better than given."""
    after, before, rows = _beside_delivered(results, mask, arm)
    return by_seed(after, rows), float(by_seed(before, rows)[0]) + within


def _beside_delivered(
    results: Results, mask: str, arm: str = BASELINE
) -> tuple[Hits, Hits, Rows]:
    """An arm's hits on held-out rows, and the delivered ones as often."""
    held_out = results.held_out_only()
    after = held_out.arms[arm].correct
    delivered = unpack_flags(mask, held_out.rows.held_out)
    before = np.repeat(delivered[None], len(after), axis=0)
    return after, before, held_out.rows_of(len(after), arm)
