"""The rounds of an audit: outcomes so far -> next experiments, or the verdicts.

`advance` is pure. It replays the rounds, which are written straight down as one
generator, against the outcomes at hand, and stops at the first experiment that is
missing. So an audit can stop, move to another machine and go on.

    inspect   measurements of weights, data and the delivered model
    screen    the baseline and every mend, few paired seeds
    interact  which mends are needed together, by adding to and taking from the best
    confirm   survivors on fresh seeds, corrected for all that was tried
    remedy    the best combination, judged once on rows no decision looked at
"""

import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from service.contract.causes import Cause
from worker.engine.catalog import CATALOG
from worker.engine.check import Check, Measures, Mend
from worker.engine.combination import (
    choose_compatible,
    compatible,
    compose,
    first_to_name,
    name,
    preference,
)
from worker.engine.lab.experiment import (
    Arm,
    Change,
    Experiment,
    Measurement,
    MeasurementOutcome,
    NetworkChange,
    Outcome,
    RecipeChange,
    Training,
    TrainingOutcome,
)
from worker.engine.planning import (
    Costs,
    Effort,
    effort_for,
    group,
    in_order,
    is_costly,
    network_key,
)
from worker.engine.results import (
    BASELINE,
    Results,
    against_delivered,
    collect,
)
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import PairedGain, are_alike
from worker.engine.subject import Subject

LOGGER = logging.getLogger(__name__)

Stage = Literal["inspect", "screen", "interact", "confirm", "remedy", "report"]
FRACTIONS: dict[str, float] = {
    "inspect": 0.02,
    "screen": 0.15,
    "interact": 0.5,
    "confirm": 0.65,
    "remedy": 0.88,
    "report": 0.97,
}
INSPECTIONS = (
    "cost", "delivered", "weights", "determinism", "label_order", "preprocessing",
    "inputs", "leakage", "shift", "signal", "segments", "noise",
)  # fmt: skip
SEED_OFFSETS: dict[str, int] = {"screen": 0, "confirm": 100, "remedy": 200}
LEAST_CONFIRMING = 6  # pairs with which a sign-flip test can reach p < .05
LEAST_SEEDS = 3
MOST_CONFIRMING = 32
LEAST_ARMS = 2  # the baseline and one mend
OTHER_INITIALIZATIONS = ("he", "glorot")
CLEARLY_WORSE = 0.02  # balanced accuracy under the baseline; such a control is settled
CLEARLY_NEARER = 0.1  # balanced accuracy by which another initialisation must be nearer
SHORT_IN_A_SUBSAMPLE = frozenset(
    {Cause.INSUFFICIENT_TRAINING, Cause.LEARNING_RATE_TOO_LOW}
)
SHARES = {"screen": 0.42, "interact": 0.35, "confirm": 0.7}  # of the time left then
SURE_SIGNAL = 0.01  # p value at which some reference certainly learns
FOLDS = 5  # parts of the training rows that seeds leave out in turn
FEW_HELD_OUT = 2_000  # rows; from here on they decide alone
SPOILS_ROWS = (Cause.LABEL_NOISE, Cause.CORRUPTED_INPUTS)
LARGEST_STACK = 48  # members trained in one experiment, so that workers can share


@dataclass(frozen=True)
class Ask:
    """Experiments that the audit needs next."""

    stage: Stage
    detail: str
    experiments: tuple[Experiment, ...]


@dataclass(frozen=True)
class Entry:
    """One experiment that was run, for the report."""

    identity: str
    experiment: Experiment
    outcome: Outcome


@dataclass
class Ledger:
    """Everything an audit asked and learned, in order."""

    entries: list[Entry] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)

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
        screen, confirm: results of the rounds; confirm is None where nothing survived.
        together: the best combination that the screen found.
        chosen: what of it fresh seeds bore out.
        best: the best mend of each cause that was tried.
        subsample: training rows that the experiments used, None where all.
    """

    measures: Measures
    obstacles: Mapping[Cause, str]
    mends: Mapping[Cause, Sequence[Mend]]
    screen: Results | None
    confirm: Results | None
    together: tuple[Mend, ...]
    chosen: tuple[Mend, ...]
    best: Mapping[Cause, Mend]
    remedy: Entry | None
    ledger: Ledger
    signal: bool
    crashed: Mapping[Cause, str] = field(default_factory=dict)
    subsample: int | None = None
    skipped: Mapping[Cause, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What `advance` answers: the experiments that are missing, or what was learned."""

    stage: Stage
    fraction: float
    detail: str
    experiments: tuple[Experiment, ...] = ()
    learned: Learned | None = None


def advance(
    subject: Subject,
    outcomes: Mapping[str, Outcome],
    checks: Sequence[Check] = CATALOG,
) -> Step:
    """Say what is needed next.

    Args:
        subject: what is audited.
        outcomes: by the experiments' digests.
        checks: the causes to judge.
    """
    rounds = Auditor(subject, checks).rounds()
    try:
        ask = next(rounds)
        while True:
            missing = [e for e in ask.experiments if e.digest() not in outcomes]
            if missing:
                share = 1 - len(missing) / max(1, len(ask.experiments))
                order = list(FRACTIONS)
                begin = FRACTIONS[ask.stage]
                end = FRACTIONS[order[order.index(ask.stage) + 1]]
                return Step(
                    stage=ask.stage,
                    fraction=begin + share * (end - begin),
                    detail=ask.detail,
                    experiments=tuple(missing),
                )
            ask = rounds.send(
                {e.digest(): outcomes[e.digest()] for e in ask.experiments}
            )
    except StopIteration as end_of_rounds:
        return Step(
            stage="report",
            fraction=FRACTIONS["report"],
            detail="writing the report",
            learned=end_of_rounds.value,
        )


Answers = dict[str, Outcome]
Rounds = Generator[Ask, Answers, Learned]


class Auditor:
    """One audit's rounds."""

    def __init__(self, subject: Subject, checks: Sequence[Check] = CATALOG) -> None:
        self.subject = subject
        self.checks = [check for check in checks if check.cause in subject.wanted]
        self.effort: Effort = effort_for(subject.budget, subject.budget_seconds)
        self.floors = Floors()
        self.ledger = Ledger()
        self.costs = Costs(0.0, 1e-3)
        self.rows: int | None = None
        self.start: tuple[Change, ...] = ()
        self.interact_left = 0.25 * self.effort.seconds
        self.crashed: dict[Cause, str] = {}
        self.folds: int | None = None
        self.borrows = False

    def rounds(self) -> Rounds:
        """Run the rounds; yields what to do, returns what was learned."""
        measures = yield from self._inspect()
        obstacles = self._obstacles()
        mends = self._mends(measures, obstacles)
        yield from self._weigh_networks(mends)
        yield from self._reproduce(measures)
        seeds = self._seeds("screen", self.effort.screen_seeds)
        if self.rows is None:
            self.rows = self._rows(SHARES["screen"] * self._left(), seeds)
        mends = self._at_full_length(mends)
        self.folds = FOLDS if self._may_borrow(mends) else None
        self.borrows = self.folds is not None
        screen, skipped = yield from self._screen(mends)
        screen = self._compared_with_spared(screen)
        yield from self._follow(screen, mends)
        mends = self._against_own_rate(screen, mends)
        best = self._best(screen, mends)
        chosen = yield from self._interact(screen, mends, best)
        chosen = self._affordable(screen, chosen)
        # What the combination uses of a cause stands for it, if not the best alone.
        best = {**best, **{mend.cause: mend for mend in chosen}}
        confirm = yield from self._confirm(screen, mends, chosen, best)
        together, chosen = chosen, self._settle(confirm, chosen)
        remedy = yield from self._remedy(chosen, screen, measures)
        return Learned(
            measures=measures,
            obstacles=obstacles,
            mends=mends,
            screen=screen,
            confirm=confirm,
            together=together,
            chosen=chosen,
            best=best,
            remedy=remedy,
            ledger=self.ledger,
            signal=self._has_signal(measures, screen),
            crashed=self.crashed,
            subsample=self.rows,
            skipped=skipped,
        )

    # ------------------------------------------------------------------- the rounds

    def _inspect(self) -> Generator[Ask, Answers, Measures]:
        names = [n for n in INSPECTIONS if self._needs(n)]
        asked = tuple(
            Measurement(question=f"What does the probe {n} see?", name=n) for n in names
        )
        answers = yield Ask("inspect", "inspecting model and data", asked)
        self._note(asked, answers)
        measures: Measures = {}
        for measurement in asked:
            outcome = answers[measurement.digest()]
            if isinstance(outcome, MeasurementOutcome):
                measures[measurement.name] = outcome.values
        self.costs = Costs.from_measure(measures.get("cost", {}))
        return measures

    def _weigh_networks(
        self, mends: Mapping[Cause, Sequence[Mend]]
    ) -> Generator[Ask, Answers, None]:
        """Measure what a step of the larger networks costs."""
        arms = [
            Arm(name=m.key, changes=m.changes)
            for options in mends.values()
            for m in options
        ]
        networks = {
            network_key(arm.changes): [
                c.model_dump(mode="json", exclude_none=True)
                for c in arm.changes
                if isinstance(c, NetworkChange)
            ]
            for arm in arms
            if is_costly(arm)
        }
        if not networks:
            return
        asked = Measurement(
            question="What do larger networks cost?",
            name="cost",
            settings={"networks": list(networks.values())},
        )
        answers = yield Ask("inspect", "measuring what larger networks cost", (asked,))
        [entry] = self._note((asked,), answers)
        relative = getattr(entry.outcome, "values", {}).get("relative")
        if isinstance(relative, dict):
            for key, value in relative.items():
                self.costs.relative[key] = float(str(value))

    def _reproduce(self, measures: Measures) -> Generator[Ask, Answers, None]:
        """Find the initialisation under which the recipe yields the delivered model.

        No recipe records it, yet a rate that one scheme survives kills another. The
        customary one stays unless another comes much nearer to what was delivered.
        """
        delivered = measures.get("delivered", {}).get("balanced_accuracy")
        if not isinstance(delivered, int | float):
            return
        schemes = ("default", *OTHER_INITIALIZATIONS)
        arms = [
            Arm(
                name=f"initialization={scheme}",
                changes=(NetworkChange(name="initialization", to=scheme),),
            )
            for scheme in schemes
        ]
        seeds = self._seeds("screen", self.effort.screen_seeds)
        self.rows = self._rows(SHARES["screen"] * self._left(), seeds)
        if self._cost(arms, seeds) > 0.1 * self._left():
            return
        question = "Which initialisation reproduces the delivered model?"
        results = yield from self._train("screen", question, arms, seeds)
        off = {
            scheme: abs(results.accuracy(arm.name) - delivered)
            for scheme, arm in zip(schemes, arms, strict=True)
            if arm.name in results
        }
        if "default" not in off:
            return
        nearest = min(off, key=lambda scheme: off[scheme])
        if off[nearest] < off["default"] - CLEARLY_NEARER:
            self.start = (NetworkChange(name="initialization", to=nearest),)
            self.ledger.limits.append(
                f"Fresh weights are drawn by the scheme {nearest!r}, under which the "
                "recipe comes nearest to the delivered model."
            )

    def _screen(
        self, mends: Mapping[Cause, Sequence[Mend]]
    ) -> Generator[Ask, Answers, tuple[Results, dict[Cause, str]]]:
        wanted = in_order(
            [m for group_ in mends.values() for m in group_], self.effort.variants
        )
        seeds = self._seeds("screen", self.effort.screen_seeds)
        allowance = SHARES["screen"] * self._left()
        arms = [Arm(name=BASELINE)]
        spent = self._cost(arms, seeds)
        skipped: dict[Cause, str] = {}
        reached: set[Cause] = set()
        for arm, causes in self._candidates(wanted):
            if arm.name in {known.name for known in arms}:
                continue
            cost = self._cost([arm], seeds) * (1.0 if spent < allowance / 2 else 1.2)
            if spent + cost > allowance and not self._is_essential(
                arm, spent, allowance
            ):
                for cause in causes:
                    skipped.setdefault(cause, "not reached within the budget")
                continue
            spent += cost
            reached |= causes
            arms.append(arm)
        skipped = {c: why for c, why in skipped.items() if c not in reached}
        for cause, why in skipped.items():
            self.ledger.limits.append(f"{cause.value}: {why}.")
        results = yield from self._train(
            "screen", "Which single change helps?", arms, seeds
        )
        return results, skipped

    def _follow(
        self, screen: Results, mends: Mapping[Cause, Sequence[Mend]]
    ) -> Generator[Ask, Answers, None]:
        """Go on where a sweep was cut off while it was still rising."""
        further = []
        for options in mends.values():
            tried = [m for m in options if m.key in screen and not m.measuring]
            untried = [m for m in options if m.key not in screen and not m.measuring]
            if not tried or not untried:
                continue
            top = max(tried, key=lambda m: self._gain(screen, m).value)
            if self._is_promising(screen, top) and top == tried[-1]:
                further += untried[:2]
        yield from self._extend(
            screen, [(m,) for m in further], "Does more of the same help more?"
        )
        controls = [
            Arm(name=m.control_arm, changes=m.control)
            for options in mends.values()
            for m in options
            if m.late_control and m.key in screen and self._is_promising(screen, m)
        ]
        yield from self._extend_by(
            screen, controls, "Does it help for the reason that is thought?"
        )

    def _interact(
        self,
        screen: Results,
        mends: Mapping[Cause, Sequence[Mend]],
        best: Mapping[Cause, Mend],
    ) -> Generator[Ask, Answers, tuple[Mend, ...]]:
        chosen = self._best_single(screen, best)
        together = self._everything(mends)
        alone = self._value(screen, chosen)
        all_at_once = (
            screen.gain(name(together)).value if name(together) in screen else -1.0
        )
        needed = max(self.floors.material, 0.1 * max(0.0, all_at_once))
        if len(together) > 1 and all_at_once > alone + needed:
            chosen = yield from self._take_away(screen, together, all_at_once)
        for _ in range(2):
            if not chosen:
                break
            added = yield from self._add(screen, chosen, best)
            if added is None:
                break
            chosen = (*chosen, added)
        return chosen

    def _confirm(
        self,
        screen: Results,
        mends: Mapping[Cause, Sequence[Mend]],
        chosen: tuple[Mend, ...],
        best: Mapping[Cause, Mend],
    ) -> Generator[Ask, Answers, Results | None]:
        survivors = sorted(
            (m for m in best.values() if self._is_promising(screen, m)),
            key=lambda m: -self._gain(screen, m).value,
        )
        singles = [m for m in chosen if m.key in screen]
        singles += [m for m in survivors if m not in singles]
        singles = singles[: max(len(chosen), self.effort.confirmed_causes)]
        measuring = self._worth_measuring(screen, mends, chosen)
        if not singles and not measuring:
            return None
        # In the order in which they are given up last to first where time is short.
        arms = self._to_confirm(screen, chosen)
        arms += [self._within(chosen, m) for m in measuring if chosen]
        for mend in (m for m in singles if m not in chosen):
            arms += [*self._open_controls(screen, mend), *self._on_top(chosen, mend)]
        arms += [Arm(name=m.key, changes=m.changes) for m in measuring if not chosen]
        arms = list({arm.name: arm for arm in arms}.values())
        seeds = self._seeds("confirm", self.effort.confirm_seeds)
        arms, seeds = self._fit(arms, seeds, SHARES["confirm"] * self._left())
        results = yield from self._train(
            "confirm", "Does the gain hold on fresh seeds?", arms, seeds
        )
        while (
            len(seeds) < MOST_CONFIRMING
            and self._is_undecided(results, singles, tested=len(best))
            and self._cost(arms, seeds) < 0.3 * self._left()
        ):
            known = len(seeds)
            seeds = self._seeds("confirm", min(2 * known, MOST_CONFIRMING))
            question = "Do more fresh seeds decide what is still open?"
            more = yield from self._train("confirm", question, arms, seeds[known:])
            results = results.joined(more)
        return results

    def _to_confirm(self, screen: Results, chosen: tuple[Mend, ...]) -> list[Arm]:
        """The baseline, the combination's parts alone, the whole, and all but one."""
        arms = [Arm(name=BASELINE)]
        for mend in sorted(chosen, key=lambda m: -self._gain(screen, m).value):
            arms += self._open_controls(screen, mend)
        if len(chosen) > 1:
            arms.append(compose(chosen))
            arms += [compose([m for m in chosen if m != left]) for left in chosen]
        for mend in chosen:
            arms += self._on_top(chosen, mend)
        return list({arm.name: arm for arm in arms}.values())

    def _open_controls(self, screen: Results, mend: Mend) -> list[Arm]:
        """A mend with those controls that might do as well as the baseline."""
        level = screen.accuracy(BASELINE) - CLEARLY_WORSE
        return [
            arm
            for arm in self._with_control(mend)
            if arm.name == mend.key
            or arm.name not in screen
            or screen.accuracy(arm.name) > level
        ]

    def _affordable(
        self, screen: Results, chosen: tuple[Mend, ...]
    ) -> tuple[Mend, ...]:
        """Leave parts out of a combination that there is no time to confirm."""
        seeds = self._seeds("confirm", LEAST_CONFIRMING)
        while len(chosen) > 1:
            allowance = SHARES["confirm"] * self._left()
            if self._cost(self._to_confirm(screen, chosen), seeds) <= allowance:
                break
            options = [tuple(m for m in chosen if m != left) for left in chosen]
            kept = max(options, key=lambda option: self._value(screen, option))
            self.ledger.limits.append(
                f"There was no time to confirm more than {name(kept)} of "
                f"{name(chosen)}."
            )
            chosen = kept
        return chosen

    def _is_undecided(
        self, results: Results, singles: Sequence[Mend], *, tested: int
    ) -> bool:
        """Whether a gain that counts is not proven yet, nor ruled out."""
        for mend in singles:
            if mend.key not in results:
                continue
            gain = self._gain(results, mend)
            p_value = gain.p_above(self.floors.proven) * tested
            is_open = p_value > self.floors.error_rate
            if is_open and gain.value >= self.floors.material:
                return True
        return False

    def _remedy(
        self,
        chosen: tuple[Mend, ...],
        screen: Results,
        measures: Measures,
    ) -> Generator[Ask, Answers, Entry | None]:
        arm = compose(chosen) if chosen else Arm(name=BASELINE)
        if not chosen and not self._retraining_helps(measures, screen):
            return None
        seeds = self._seeds("remedy", self.effort.remedy_seeds)
        while len(seeds) > 1 and self._cost([arm], seeds, full=True) > self._left():
            seeds = seeds[:-1]
        training = Training(
            round="remedy",
            question="How good is the repaired model on rows no decision looked at?",
            arms=(self._begun(arm),),
            seeds=seeds,
            split="final",
            keep=arm.name,
            max_seconds=max(10.0, 1.5 * self._left()),
        )
        answers = yield Ask("remedy", "training the repaired model", (training,))
        [entry] = self._note((training,), answers)
        outcome = entry.outcome
        if isinstance(outcome, TrainingOutcome) and outcome.arms[0].failure is None:
            return entry
        return None

    # ------------------------------------------------- parts of the round `interact`

    def _take_away(
        self, screen: Results, together: tuple[Mend, ...], gain: float
    ) -> Generator[Ask, Answers, tuple[Mend, ...]]:
        """Leave each out in turn; what is missed stays."""
        tolerance = max(0.6 * self.floors.material, 0.1 * gain)
        fewer = [tuple(m for m in together if m != left) for left in together]
        yield from self._extend(screen, fewer, "What can be left out?")
        missed = [
            left
            for left, rest in zip(together, fewer, strict=True)
            if self._value(screen, rest) < gain - tolerance
        ]
        kept = tuple(missed)
        if len(kept) == len(together):
            return kept
        if kept:
            yield from self._extend(screen, [kept], "Is what remains enough?")
        for _ in range(len(together)):
            if kept and self._value(screen, kept) >= gain - tolerance:
                break
            options = [(*kept, m) for m in together if m not in kept]
            if not options:
                break
            yield from self._extend(screen, options, "What must be put back?")
            top = max(self._value(screen, option) for option in options)
            kept = min(
                (o for o in options if self._value(screen, o) >= top - tolerance / 2),
                key=lambda option: preference(option[-1]),
            )
        return kept

    def _add(
        self,
        screen: Results,
        chosen: tuple[Mend, ...],
        best: Mapping[Cause, Mend],
    ) -> Generator[Ask, Answers, Mend | None]:
        """Add each other mend to the combination; take the best that is worth it."""
        now = self._value(screen, chosen)
        others = [
            m
            for m in best.values()
            if all(compatible(m, c) for c in chosen)
            and (m.urgent or self._gain(screen, m).value > 0)
        ]
        others.sort(key=lambda m: -self._gain(screen, m).value)
        options = [(*chosen, m) for m in others[: self.effort.confirmed_causes]]
        if not options:
            return None
        yield from self._extend(screen, options, "Does anything help in addition?")
        worth = [(option[-1], self._value(screen, option) - now) for option in options]
        if max(value for _, value in worth) < max(self.floors.material, 0.15 * now):
            return None
        return first_to_name(worth)

    def _extend(
        self, screen: Results, combinations: Iterable[tuple[Mend, ...]], question: str
    ) -> Generator[Ask, Answers, None]:
        """Train combinations on the screening seeds, beside what is already there."""
        arms = [compose(c) for c in combinations if c]
        yield from self._extend_by(screen, arms, question)

    def _extend_by(
        self, screen: Results, wanted: Sequence[Arm], question: str
    ) -> Generator[Ask, Answers, None]:
        arms = [arm for arm in wanted if arm.name not in screen]
        seeds = self._seeds("screen", self.effort.screen_seeds)
        allowance = min(SHARES["interact"] * self._left(), self.interact_left)
        fitting: list[Arm] = []
        for arm in arms:
            if self._cost([*fitting, arm], seeds) > allowance:
                self.ledger.limits.append(
                    f"{arm.name} was not reached within the budget."
                )
                continue
            fitting.append(arm)
        if not fitting:
            return
        before = self.ledger.seconds
        more = yield from self._train("interact", question, fitting, seeds)
        self.interact_left -= self.ledger.seconds - before
        # The arms dictionary of this round is ours; other rounds hold their own.
        screen.arms.update(more.arms)  # type: ignore[attr-defined]

    # ---------------------------------------------------------------------- choices

    def _best(
        self, screen: Results, mends: Mapping[Cause, Sequence[Mend]]
    ) -> dict[Cause, Mend]:
        """The mend of each cause that the screen liked best."""
        found: dict[Cause, Mend] = {}
        for cause, options in mends.items():
            tried = [m for m in options if m.key in screen and not m.measuring]
            if tried:
                found[cause] = max(tried, key=lambda m: self._gain(screen, m).value)
        return found

    def _best_single(
        self, screen: Results, best: Mapping[Cause, Mend]
    ) -> tuple[Mend, ...]:
        promising = [m for m in best.values() if self._is_promising(screen, m)]
        if not promising:
            return ()
        return (first_to_name([(m, self._gain(screen, m).value) for m in promising]),)

    def _everything(self, mends: Mapping[Cause, Sequence[Mend]]) -> tuple[Mend, ...]:
        """One sane mend a cause, as many as go together."""
        sane = []
        for options in mends.values():
            fitting = [m for m in options if m.sane]
            if fitting:
                sane.append(max(fitting, key=lambda m: len(m.changes)))
        sane.sort(key=preference)
        return tuple(choose_compatible(sane))

    def _is_promising(self, screen: Results, mend: Mend) -> bool:
        gain = self._gain(screen, mend)
        return (
            gain.value >= 0.8 * self.floors.material
            and gain.value + gain.error > self.floors.material
        )

    def _worth_measuring(
        self,
        screen: Results,
        mends: Mapping[Cause, Sequence[Mend]],
        chosen: tuple[Mend, ...],
    ) -> list[Mend]:
        """Measuring arms whose effect is large enough to be measured better.

        With something mended they are measured anew, whatever a broken baseline showed.
        """
        found: list[Mend] = []
        for options in mends.values():
            arms = [m for m in options if m.measuring and m.key in screen]
            seen = [abs(screen.gain(m.key).value) for m in arms]
            if arms and (chosen or max(seen) >= self.floors.material):
                found += arms
        return found

    def _within(self, chosen: tuple[Mend, ...], mend: Mend) -> Arm:
        """A measuring mend beside the combination, as many updates as that makes."""
        given = self.subject.recipe.epochs
        longer = [(m.patch or {}).get("epochs") for m in chosen]
        times = next((e / given for e in longer if e), 1.0)
        own = (mend.patch or {}).get("epochs", given)
        change = RecipeChange(patch={"epochs": max(1, round(own * times))})
        return compose([*chosen, replace(mend, changes=(*mend.changes, change))])

    def _against_own_rate(
        self, screen: Results, mends: Mapping[Cause, Sequence[Mend]]
    ) -> dict[Cause, Sequence[Mend]]:
        """Have other optimisers compete with the given one at its own best rate."""
        swept = [
            m
            for cause in (Cause.LEARNING_RATE_TOO_HIGH, Cause.LEARNING_RATE_TOO_LOW)
            for m in mends.get(cause, ())
            if m.key in screen
        ]
        found = dict(mends)
        if not swept:
            return found
        own = max(swept, key=lambda m: self._gain(screen, m).value)
        if self._gain(screen, own).value > 0:
            found[Cause.UNSUITABLE_OPTIMIZER] = [
                m if m.evident else replace(m, rival=own)
                for m in mends.get(Cause.UNSUITABLE_OPTIMIZER, ())
            ]
        return found

    def _gain(self, results: Results, mend: Mend) -> PairedGain:
        return results.gain_over_best(mend.key, mend.controls)

    def _value(self, results: Results, mends: Sequence[Mend]) -> float:
        if not mends:
            return 0.0
        key = name(mends)
        return results.gain(key).value if key in results else -1.0

    def _settle(
        self, confirm: Results | None, chosen: tuple[Mend, ...]
    ) -> tuple[Mend, ...]:
        """Drop from the combination what fresh seeds do not bear out."""
        if confirm is None:
            return ()
        if len(chosen) == 1:
            gain = self._gain(confirm, chosen[0]) if chosen[0].key in confirm else None
            keep = gain is not None and gain.value >= self.floors.material
            return chosen if keep else ()
        whole = name(chosen)
        if whole not in confirm:
            return self._best_single(
                confirm, {m.cause: m for m in chosen if m.key in confirm}
            )
        kept = []
        for mend in chosen:
            rest = name([m for m in chosen if m != mend])
            # What there was no time to leave out stays: the whole was confirmed.
            is_missed = (
                rest not in confirm
                or confirm.gain(whole, over=rest).value >= self.floors.material
            )
            if is_missed:
                kept.append(mend)
        return tuple(kept)

    def _has_signal(self, measures: Measures, screen: Results) -> bool:
        """Whether anything, reference or arm, predicts held-out labels."""
        signal = measures.get("signal", {})
        delivered = signal.get("delivered")
        p_values = [signal.get("p_value")]
        if isinstance(delivered, dict):
            p_values.append(delivered.get("p_value"))
        known = [p for p in p_values if isinstance(p, int | float)]
        if not known or min(known) <= SURE_SIGNAL:
            return True
        _, rows = np.unique(self.subject.labels["decide"], return_counts=True)
        chance = 1 / len(rows)
        error = float(np.sqrt((chance * (1 - chance) / rows).sum())) / len(rows)
        # The best of some sixty arms lies about three errors above chance by itself.
        return bool(screen.best > chance + max(4 * error, 0.02))

    def _retraining_helps(self, measures: Measures, screen: Results) -> bool:
        """Whether training anew by the same recipe repairs the delivered weights."""
        masks = measures.get("delivered", {}).get("correct")
        if BASELINE not in screen or not isinstance(masks, dict):
            return False
        gain = against_delivered(screen, str(masks["decide"]))
        return gain.value >= self.floors.material and gain.low > self.floors.proven

    # ------------------------------------------------------------------- the service

    def _obstacles(self) -> dict[Cause, str]:
        found = {}
        for check in self.checks:
            why = check.obstacle(self.subject)
            if why is not None:
                found[check.cause] = why
        return found

    def _mends(
        self, measures: Measures, obstacles: Mapping[Cause, str]
    ) -> dict[Cause, Sequence[Mend]]:
        found: dict[Cause, Sequence[Mend]] = {}
        for check in self.checks:
            if check.cause in obstacles:
                continue
            try:
                found[check.cause] = check.mends(self.subject, measures)
            except Exception as error:  # one check must not take the others along
                LOGGER.exception("check %s crashed while planning", check.cause)
                self.crashed[check.cause] = f"{type(error).__name__}: {error}"
        return found

    def _at_full_length(
        self, mends: Mapping[Cause, Sequence[Mend]]
    ) -> dict[Cause, Sequence[Mend]]:
        """Keep a subsample from looking like too little training.

        Fewer rows make fewer updates at the same number of epochs. What longer or
        faster training brings is therefore compared with as many updates as the whole
        data would have had.
        """
        rows = self.subject.data.rows["train"]
        if self.rows is None or self.rows >= rows:
            return dict(mends)
        epochs = round(self.subject.recipe.epochs * rows / self.rows)
        control = (RecipeChange(patch={"epochs": epochs}),)
        return {
            cause: [
                replace(m, control=control, control_name="full length|control")
                for m in options
            ]
            if cause in SHORT_IN_A_SUBSAMPLE
            else options
            for cause, options in mends.items()
        }

    def _may_borrow(self, mends: Mapping[Cause, Sequence[Mend]]) -> bool:
        """Whether training rows, left out in turn, may help held-out rows decide.

        Only where those are few, and nothing is known to be wrong with the others.
        """
        rows = self.subject.data.rows
        return (
            self.rows is None
            and rows["decide"] <= FEW_HELD_OUT
            and "train" in self.subject.labels
            and not any(mends.get(cause) for cause in SPOILS_ROWS)
        )

    def _compared_with_spared(self, screen: Results) -> Results:
        """Give up rows left out in turn that are unlike the held-out ones.

        Duplicates, wrong labels or another mix of samples show in how the baseline
        does on them.
        """
        spared = screen.on_spared() if BASELINE in screen else None
        if spared is None:
            return screen
        held_out = screen.held_out_only()
        first = screen.rows.held_out
        if are_alike(
            (held_out.arms[BASELINE].correct, None, held_out.rows.labels),
            (*spared, screen.rows.labels[first:]),
        ):
            self.ledger.limits.append(
                f"{self.subject.data.rows['train']} training rows, left out in turn, "
                f"decide beside the {first} held-out ones."
            )
            return screen
        self.borrows = False
        return held_out

    def _candidates(
        self, wanted: Sequence[Mend]
    ) -> Iterable[tuple[Arm, frozenset[Cause]]]:
        """Arms to screen, with the causes that they serve."""
        by_cause: dict[Cause, list[Mend]] = {}
        for mend in wanted:
            by_cause.setdefault(mend.cause, []).append(mend)
        together = self._everything(by_cause)
        placed = False
        for mend in wanted:
            if not mend.urgent and not placed and len(together) > 1:
                placed = True
                yield compose(together), frozenset()
            for arm in self._with_control(mend)[: 1 if mend.late_control else None]:
                yield arm, frozenset({mend.cause})
        if not placed and len(together) > 1:
            yield compose(together), frozenset()

    def _with_control(self, mend: Mend) -> list[Arm]:
        arms = [Arm(name=mend.key, changes=mend.changes)]
        if mend.control:
            arms.append(Arm(name=mend.control_arm, changes=mend.control))
        if mend.rival is not None:
            arms.append(Arm(name=mend.rival.key, changes=mend.rival.changes))
        return arms

    def _on_top(self, chosen: tuple[Mend, ...], mend: Mend) -> list[Arm]:
        """A mend within the combination, and its rival in its place."""
        rest = [m for m in chosen if m.cause != mend.cause]
        options = [mend] if mend.rival is None else [mend, mend.rival]
        return [
            compose([*rest, option])
            for option in options
            if rest and all(compatible(option, other) for other in rest)
        ]

    def _train(
        self, stage: Stage, question: str, arms: Sequence[Arm], seeds: tuple[int, ...]
    ) -> Generator[Ask, Answers, Results]:
        """Train arms in as few experiments as their networks allow."""
        arms = [self._begun(arm) for arm in arms]
        limit = max(15.0, 1.2 * self._left())
        # The screen's arms must all have learned from the same rows.
        folds = self.folds if self.borrows or stage != "confirm" else None
        experiments = tuple(
            Training(
                round=stage,
                question=question,
                arms=tuple(part),
                seeds=seeds,
                rows=self.rows,
                folds=folds,
                max_seconds=limit,
            )
            for stack in group(arms)
            for part in _chunks(stack, max(1, LARGEST_STACK // len(seeds)))
        )
        answers = yield Ask(stage, question, experiments)
        entries = self._note(experiments, answers)
        results = self._collected(entries)
        return results if self.borrows else results.held_out_only()

    def _collected(self, entries: Sequence[Entry]) -> Results:
        ran = [
            (e.identity, e.experiment, e.outcome)
            for e in entries
            if isinstance(e.experiment, Training)
            and isinstance(e.outcome, TrainingOutcome)
        ]
        labels = self.subject.labels
        return collect(ran, labels["decide"], labels.get("train"))

    def _begun(self, arm: Arm) -> Arm:
        """Put the subject's own initialisation before an arm's changes."""
        return arm.model_copy(update={"changes": (*self.start, *arm.changes)})

    def _note(self, experiments: Sequence[Experiment], answers: Answers) -> list[Entry]:
        added = []
        for experiment in experiments:
            outcome = answers[experiment.digest()]
            identity = f"exp_{len(self.ledger.entries) + 1:03d}"
            entry = Entry(identity, experiment, outcome)
            self.ledger.entries.append(entry)
            added.append(entry)
            if isinstance(experiment, Training):
                self.costs.learn(self.subject, experiment, outcome.seconds)
            for note in outcome.notes:
                if note not in self.ledger.limits:
                    self.ledger.limits.append(note)
        return added

    def _seeds(self, stage: str, count: int) -> tuple[int, ...]:
        first = self.subject.seed * 1000 + SEED_OFFSETS[stage]
        return tuple(first + i for i in range(count))

    def _left(self) -> float:
        return max(1.0, self.effort.seconds - self.ledger.seconds)

    def _cost(
        self, arms: Sequence[Arm], seeds: tuple[int, ...], *, full: bool = False
    ) -> float:
        rows = None if full else self.rows
        training = Training(
            round="", question="", arms=tuple(arms), seeds=seeds, rows=rows
        )
        return self.costs.of(self.subject, training)

    def _rows(self, allowance: float, seeds: tuple[int, ...]) -> int | None:
        """Rows to train on, so that a dozen arms fit the allowance; None: all."""
        rows = self.subject.data.rows["train"]
        a_dozen = 12 * self._cost([Arm(name=BASELINE)], seeds)
        if a_dozen <= allowance:
            return None
        least = max(500, 20 * self.subject.data.classes)
        fewer = max(least, int(rows * allowance / a_dozen))
        if fewer >= rows:
            return None
        note = (
            f"Experiments trained on {fewer} of {rows} training rows to keep the "
            "budget; gains hold for that size."
        )
        if note not in self.ledger.limits:
            self.ledger.limits.append(note)
        return fewer

    def _fit(
        self, arms: list[Arm], seeds: tuple[int, ...], allowance: float
    ) -> tuple[list[Arm], tuple[int, ...]]:
        """Give up seeds, down to six, then the last arms, until the cost fits."""
        while len(seeds) > LEAST_CONFIRMING and self._cost(arms, seeds) > allowance:
            seeds = seeds[:-1]
        while len(arms) > LEAST_ARMS and self._cost(arms, seeds) > allowance:
            arms = arms[:-1]
        while len(seeds) > LEAST_SEEDS and self._cost(arms, seeds) > 1.3 * allowance:
            seeds = seeds[:-1]
        return arms, seeds

    def _is_essential(self, arm: Arm, spent: float, allowance: float) -> bool:
        """Whether an arm is tried even over the allowance: none once it is spent."""
        return spent < 0.2 * allowance and self._cost([arm], (0,)) < 0.5 * allowance

    def _needs(self, probe: str) -> bool:
        if probe == "noise":
            return Cause.LABEL_NOISE in self.subject.wanted
        return True


def _chunks(arms: Sequence[Arm], size: int) -> list[Sequence[Arm]]:
    return [arms[i : i + size] for i in range(0, len(arms), size)]
