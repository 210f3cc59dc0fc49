"""Before the remedy: how far the repaired model can be taken in the time left.

What is named was proven by then; here only the repaired model gains. A network that is
eight times wider than one of two units may still be too small, and a rate that was fit
for the fault may not be the best without it: the recipe's customary knobs are turned
from where the mends have brought it, a step at a time, as long as that pays. Other
answers to a cause that screened about as well are compared once more, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from service.contract.causes import Cause
from worker.engine.check import Mend
from worker.engine.choices import RATES
from worker.engine.combination import arm_of, everything, goes_with, name
from worker.engine.lab.experiment import NetworkChange, RecipeChange
from worker.engine.ledger import Round
from worker.engine.recipe import CompleteRecipe, merge_patch
from worker.engine.results import Results
from worker.engine.stats.decisions import Floors
from worker.engine.stats.pairs import PairedGain
from worker.engine.subject import Subject
from worker.engine.sweeps import (
    HIGHEST_RATE,
    SMOOTHING,
    rate_change,
    round_rate,
    smoothed_labels,
)
from worker.engine.trainer import Trainer

SHARE_OF_BUDGET = 0.2  # that all steps together may take
SHARE_OF_LEFT = 0.5  # of the time left; the repaired model needs the rest
MOST_STEPS = 4
BY_CHANCE = 0.02  # p value of what a repaired model is given, the best of several
RATE_STEP, LONGER, WIDER = 3.0, 2, 2.0
WIDEST = 64.0  # times the delivered width
MUCH = 0.03  # balanced accuracy; what seems to bring that is asked of more seeds
MORE_SEEDS = 2  # times as many
MOST_ANSWERS = 2  # to one cause, beside the one that was confirmed
TURNED = {*RATES, Cause.INSUFFICIENT_TRAINING}  # causes whose knobs are turned anyhow


def refine(
    trainer: Trainer,
    repaired: tuple[Mend, ...],
    mends: Mapping[Cause, Sequence[Mend]],
    screen: Results,
    *,
    anew: bool,
    more: Sequence[Mend] = (),
) -> Round[tuple[Mend, ...]]:
    """Turn the knobs of a repaired model, one at a time, while it pays.

    Args:
        trainer: of the audit.
        repaired: the mends so far, of different causes.
        mends: all that were proposed, by cause.
        screen: what came out of the first look.
        anew: whether training anew by the same recipe repairs, without any mend.
        more: answers to a cause mended that were found since the screen.

    Returns:
        The mends of the best model, some of them taken further. Nothing is refined
        where nothing is repaired, or where only a part of the rows was trained on: what
        is best on few rows need not be on all. What is trained anew is given what is
        plainly amiss in its recipe, and nothing else.
    """
    if not (repaired or anew) or trainer.rows is not None:
        return repaired
    refinement = _Refinement(trainer, mends)
    answers = other_answers(repaired, mends, screen)
    for cause in {answer.cause for answer in more}:
        found = [answer for answer in more if answer.cause is cause]
        answers[cause] = [*found, *answers.get(cause, [])]
    for _ in range(MOST_STEPS if repaired else 1):
        better = yield from refinement.step(repaired, answers)
        if better is None:
            break
        repaired, answers = better, {}  # they were compared
    return repaired


class _Refinement:
    """Looks for a better model, a step at a time, within the round's own budget."""

    def __init__(self, trainer: Trainer, mends: Mapping[Cause, Sequence[Mend]]) -> None:
        self.trainer, self.mends = trainer, mends
        self.begun = trainer.ledger.seconds

    @property
    def allowance(self) -> float:
        """Seconds that may be spent from now on."""
        trainer = self.trainer
        spent = trainer.ledger.seconds - self.begun
        return min(
            SHARE_OF_BUDGET * trainer.effort.seconds - spent,
            SHARE_OF_LEFT * trainer.left,
        )

    def step(
        self, repaired: tuple[Mend, ...], answers: Mapping[Cause, Sequence[Mend]]
    ) -> Round[tuple[Mend, ...] | None]:
        """Try all that is one step away; returns the best of it, if any is better."""
        seeds = self.trainer.seeds("refine", self.trainer.effort.remedy_seeds)
        now = arm_of(repaired).name
        instead = {name(option): option for option in _instead(repaired, answers)}
        options = self._affordable(repaired, instead.values(), seeds)
        if not options:
            return None
        arms = [arm_of(option) for option in (repaired, *options.values())]
        question = "Does the repaired model get better still?"
        results = yield from self.trainer.train("remedy", question, arms, seeds)
        gains = {
            key: results.gain(key, over=now)
            for key in options
            if key in results and now in results
        }
        better = {
            key: gain.value
            for key, gain in gains.items()
            if _is_better(gain, self.trainer.floors, answers_alike=key in instead)
            or self._is_due(options[key], repaired, gain)
        }
        if not gains:
            return None
        top = max(gains, key=lambda key: gains[key].value)
        if top not in better and gains[top].value >= MUCH:
            is_proven = yield from self._proven(options[top], repaired)
            if is_proven:
                return options[top]
        return options[max(better, key=lambda key: better[key])] if better else None

    def _is_due(
        self, option: tuple[Mend, ...], repaired: tuple[Mend, ...], gain: PairedGain
    ) -> bool:
        """Whether what is plainly amiss is mended, too, and that does no harm."""
        added = [m for m in option if m not in repaired]
        amiss = all(m.sane and m.evident and not m.natural for m in added)
        due = amiss and len(option) > len(repaired)
        return due and gain.value > -self.trainer.floors.proven

    def _affordable(
        self,
        repaired: tuple[Mend, ...],
        instead: Iterable[tuple[Mend, ...]],
        seeds: tuple[int, ...],
    ) -> dict[str, tuple[Mend, ...]]:
        """What is one step away, as much of it as there is time for."""
        trainer, allowance = self.trainer, self.allowance
        options: dict[str, tuple[Mend, ...]] = {}
        for option in (
            *instead,
            *(variations(trainer.subject, repaired) if repaired else ()),
            *_with_more(repaired, self.mends),
        ):
            arms = [arm_of(o) for o in (repaired, *options.values(), option)]
            if trainer.cost(arms, seeds) <= allowance:
                options[name(option)] = option
        return options

    def _proven(
        self, option: tuple[Mend, ...], repaired: tuple[Mend, ...]
    ) -> Round[bool]:
        """Ask fresh seeds, more of them, whether what looks much better is better."""
        known = self.trainer.effort.remedy_seeds
        seeds = self.trainer.seeds("refine", (1 + MORE_SEEDS) * known)[known:]
        arms = [arm_of(repaired), arm_of(option)]
        if self.trainer.cost(arms, seeds) > self.allowance:
            return False
        question = "Do more seeds bear out what looks better?"
        more = yield from self.trainer.train("remedy", question, arms, seeds)
        if any(arm.name not in more for arm in arms):
            return False
        gain = more.gain(name(option), over=arm_of(repaired).name)
        return _is_better(gain, self.trainer.floors, answers_alike=False)


def _is_better(gain: PairedGain, floors: Floors, *, answers_alike: bool) -> bool:
    """Whether to take a step; of answers that both mend the cause the better is it."""
    if answers_alike:
        return gain.value > 0
    return gain.value >= floors.proven and gain.p_above(0.0) <= BY_CHANCE


def other_answers(
    repaired: Sequence[Mend], mends: Mapping[Cause, Sequence[Mend]], screen: Results
) -> dict[Cause, list[Mend]]:
    """Other mends of the causes mended that did about as well in the screen."""
    found: dict[Cause, list[Mend]] = {}
    for mend in repaired:
        if mend.cause in TURNED or mend.key not in screen:
            continue
        own = screen.gain(mend.key)  # what the controls show was settled before
        alike = [
            m
            for m in mends.get(mend.cause, ())
            if m.key in screen
            and m.key != mend.key
            and not m.measuring
            and screen.gain(m.key).value >= own.value - own.error
        ]
        alike.sort(key=lambda m: -screen.gain(m.key).value)
        found[mend.cause] = alike[:MOST_ANSWERS]
    return found


def _instead(
    repaired: tuple[Mend, ...], answers: Mapping[Cause, Sequence[Mend]]
) -> Iterable[tuple[Mend, ...]]:
    """Give each cause one of its other answers."""
    for mend in repaired:
        others = tuple(m for m in repaired if m != mend)
        for other in answers.get(mend.cause, ()):
            if goes_with(other, others):
                yield (*others, other)


def variations(
    subject: Subject, repaired: tuple[Mend, ...]
) -> Iterable[tuple[Mend, ...]]:
    """List what the mends become with one knob turned, the likeliest first."""
    recipe = subject.recipe
    for mend in repaired:
        recipe = recipe.patched(mend.patch or {})
    for step in (
        *_smoothed(recipe, repaired),
        _longer(recipe, subject.recipe.epochs),
        *_rates(recipe, repaired),
        *_wider(subject, repaired),
        *_scaled(recipe, subject),
    ):
        others = tuple(mend for mend in repaired if not _replaces(step, mend))
        if goes_with(step, others):
            yield (*others, step)


def _with_more(
    repaired: tuple[Mend, ...], mends: Mapping[Cause, Sequence[Mend]]
) -> Iterable[tuple[Mend, ...]]:
    """Add what belongs to a sane recipe, though too little was missed without it."""
    for more in everything(mends):
        if goes_with(more, repaired) and (repaired or more.evident):
            yield (*repaired, more)


def _replaces(step: Mend, mend: Mend) -> bool:
    """Whether a step is another answer to what a mend was for."""
    return mend.cause is step.cause or (step.cause in RATES and mend.cause in RATES)


def _smoothed(recipe: CompleteRecipe, repaired: tuple[Mend, ...]) -> Iterable[Mend]:
    """Smooth labels of which wrong ones were left out: some were never suspected."""
    noise = next((m for m in repaired if m.cause is Cause.LABEL_NOISE), None)
    smoothed = smoothed_labels(recipe)
    if noise is None or smoothed is None:
        return
    yield replace(
        noise,
        key=f"{noise.key}, labels smoothed",
        text=f"{noise.text}, and smooth the labels that are left by {SMOOTHING:g}",
        changes=(*noise.changes, smoothed),
    )


def _longer(recipe: CompleteRecipe, given: int) -> Mend:
    epochs = LONGER * recipe.epochs
    return Mend(
        cause=Cause.INSUFFICIENT_TRAINING,
        key=f"epochs={epochs}",
        text=f"Train for {epochs} epochs instead of {given}",
        changes=(RecipeChange(patch={"epochs": epochs}),),
    )


def _rates(recipe: CompleteRecipe, repaired: tuple[Mend, ...]) -> Iterable[Mend]:
    """Higher and lower rates, of another optimiser where that is a mend."""
    optimizer = recipe.optimizer
    other = next((m for m in repaired if m.cause is Cause.UNSUITABLE_OPTIMIZER), None)
    for factor in (RATE_STEP, 1 / RATE_STEP):
        rate = round_rate(factor * optimizer.lr)
        if rate > HIGHEST_RATE[optimizer.name]:
            continue
        cause, key = RATES[factor > 1], f"lr={rate:g}"
        text, change = f"Use a learning rate of {rate:g}", rate_change(rate)
        if other is not None and (other.patch or {}).get("optimizer"):
            cause, key = other.cause, f"{optimizer.name}, lr={rate:g}"
            text = f"Use {optimizer.name} with a learning rate of {rate:g}"
            change = RecipeChange(patch=merge_patch(other.patch, change.patch))
        yield Mend(cause=cause, key=key, text=text, changes=(change,))


def _wider(subject: Subject, repaired: tuple[Mend, ...]) -> Iterable[Mend]:
    if subject.network.smallest_width is None:
        return
    made = [
        change
        for mend in repaired
        for change in mend.changes
        if isinstance(change, NetworkChange) and change.name == "width"
    ]
    known = made[0] if made else NetworkChange(name="width", factor=1.0)
    factor = WIDER * (known.factor or 1.0)
    if 1.0 < factor <= WIDEST:
        text = f"Make the hidden layers {factor:g} times wider"
        if known.least:
            text += f", and of no fewer than {known.least} units"
        yield Mend(
            cause=Cause.INSUFFICIENT_CAPACITY,
            key=f"width×{factor:g}",
            text=text,
            changes=(known.model_copy(update={"factor": factor}),),
        )


def _scaled(recipe: CompleteRecipe, subject: Subject) -> Iterable[Mend]:
    if recipe.normalization == "none" and subject.data.kind != "tokens":
        yield Mend(
            cause=Cause.UNSCALED_INPUTS,
            key="standardize",
            text="Standardise the inputs with the training data's mean and deviation",
            changes=(RecipeChange(patch={"normalization": "standardize"}),),
        )
