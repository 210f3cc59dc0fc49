"""The round `interact`: which mends are needed together.

Beside the screen, on its seeds: sweeps go on, parts are left out of the whole that
mends everything, and mends are added to the best.
"""

from collections.abc import Iterable, Mapping, Sequence

from service.contract.causes import Cause
from worker.engine.check import Mend
from worker.engine.choices import (
    RATES,
    best_of_each,
    best_single,
    between,
    gain_of,
    is_promising,
    value_of,
)
from worker.engine.combination import (
    all_but_one,
    beside,
    compose,
    everything,
    everything_wider,
    first_to_name,
    goes_with,
    is_more_of,
    name,
    preference,
    taken_apart,
    with_controls,
)
from worker.engine.lab.experiment import Arm
from worker.engine.ledger import Round, Untried
from worker.engine.results import BASELINE, Results
from worker.engine.symptoms import FAR_SHORT
from worker.engine.trainer import LEAST_CONFIRMING, SHARES, Trainer

SHARE_OF_BUDGET = 0.25  # that the whole round may take
LEAST_SHARE = 0.1  # of the time left, that an experiment may take whatever is kept
NEAR_THE_BEST = 0.5  # of the best gain; what gains less is followed where that is cheap
MOST_ADDED = 2  # mends put on top of the best combination
MOST_LIKELY = 2  # evident mends that get rates of their own


class Interaction:
    """Extends the screen by combinations, within the round's own budget.

    Attributes:
        screen: results of the screen; what this round trains is put beside them.
        left: seconds that the round may still take.
        kept: seconds that are needed to confirm the best single mend, and after that.
    """

    def __init__(self, trainer: Trainer, screen: Results) -> None:
        self.trainer = trainer
        self.screen = screen
        self.left = SHARE_OF_BUDGET * trainer.effort.seconds
        self.kept = 0.0
        self.floors = trainer.floors

    def follow(self, mends: Mapping[Cause, Sequence[Mend]]) -> Round[None]:
        """Go on where a sweep was cut off while it was still rising."""
        screen = self.screen
        further: list[tuple[float, list[Mend]]] = []
        best = best_of_each(screen, mends)
        self.kept = self._needed_for(best_single(screen, best, self.floors))
        for options in mends.values():
            tried = [m for m in options if m.key in screen and not m.measuring]
            untried = [m for m in options if m.key not in screen and not m.measuring]
            if not tried or not untried:
                continue
            top = max(tried, key=lambda m: gain_of(screen, m).value)
            if is_promising(screen, top, self.floors) and top == tried[-1]:
                more = [m for m in untried if is_more_of(top, m)][:2]
                further.append((gain_of(screen, top).value, more))
        yield from self._combined(
            self._worth_following(further, best), "Does more of the same help more?"
        )
        controls = {
            m.control_arm: Arm(name=m.control_arm, changes=m.control)
            for options in mends.values()
            for m in options
            if m.late_control
            and m.key in screen
            and is_promising(screen, m, self.floors)
        }
        yield from self._extend(
            [*controls.values()], "Does it help for the reason that is thought?"
        )

    def _worth_following(
        self,
        further: Sequence[tuple[float, list[Mend]]],
        best: Mapping[Cause, Mend],
    ) -> list[tuple[Mend, ...]]:
        """Where that is dear, follow only what comes near to the best of all.

        Args:
            further: what a sweep has gained so far, and what is next in it.
            best: mend of each cause.
        """
        every: list[tuple[Mend, ...]] = [(m,) for _, more in further for m in more]
        if self._cost(*every) <= LEAST_SHARE * self.trainer.left:
            return every
        top = max(gain_of(self.screen, mend).value for mend in best.values())
        near = [more for gain, more in further if gain >= NEAR_THE_BEST * top]
        return [(mend,) for more in near for mend in more]

    def combine(
        self, mends: Mapping[Cause, Sequence[Mend]], best: Mapping[Cause, Mend]
    ) -> Round[tuple[Mend, ...]]:
        """Find the best combination: from the whole downwards, then upwards."""
        chosen = best_single(self.screen, best, self.floors)
        self.kept = self._needed_for(chosen)
        alone = value_of(self.screen, chosen)
        together = yield from self._whole(mends, alone)
        all_at_once = value_of(self.screen, together)
        needed = max(self.floors.material, 0.1 * max(0.0, all_at_once))
        if len(together) > 1 and all_at_once > alone + needed:
            chosen = yield from self._take_away(together, all_at_once)
        else:
            chosen = yield from self._likeliest(chosen, mends, best)
            chosen = yield from self._at_its_own_rate(chosen, mends, best)
        for _ in range(MOST_ADDED):
            if not chosen:
                break
            added = yield from self._add(chosen, mends, best)
            if added is None:
                break
            chosen = (*chosen, added)
        if len(chosen) > 1:
            return (yield from self._substitute(chosen, mends, best))
        # One mend is enough: then an evident one that does nearly as well is likelier.
        known = {**best, **{m.cause: m for m in chosen}}
        return best_single(self.screen, known, self.floors) if chosen else ()

    def _whole(
        self, mends: Mapping[Cause, Sequence[Mend]], alone: float
    ) -> Round[tuple[Mend, ...]]:
        """Find what mends everything, where no single mend does by far.

        What can be taken apart in the time that is left comes first, the whole next,
        and then wider. What fails in a narrow network shows nothing.

        Args:
            mends: by cause.
            alone: what the best single mend gains.

        Returns:
            What gained most of these.
        """
        together, wider = everything(mends), everything_wider(mends)
        enough = FAR_SHORT * self.trainer.missing
        if max(alone, value_of(self.screen, together)) >= enough:
            return together
        for whole, question in (
            (self._cheap_enough(together), "Does all at once help?"),
            (together, "Does all at once help?"),
            (self._cheap_enough(wider), "Does all at once help, but wider?"),
            (wider, "Does all at once help, but wider?"),
        ):
            if name(whole) not in self.screen:
                yield from self._combined([whole], question)
            before = value_of(self.screen, together)
            if value_of(self.screen, whole) > before + self.floors.material:
                together = whole
            if value_of(self.screen, together) >= enough:
                break
        return together

    def _cheap_enough(self, whole: tuple[Mend, ...]) -> tuple[Mend, ...]:
        """Leave out what is dearest until there is time to take the rest apart."""
        while len(whole) > 1:
            fewer = all_but_one(whole)
            if self._cost(whole, *fewer) <= self._allowance:
                break
            whole = min(fewer, key=self._cost)
        return whole

    def _cost(self, *combinations: tuple[Mend, ...]) -> float:
        """Predict the seconds that combinations take on the screening seeds."""
        arms = [compose(mends) for mends in combinations]
        return self.trainer.cost(arms, self.trainer.screening_seeds)

    @property
    def _allowance(self) -> float:
        """Seconds that the next experiment of the round may take."""
        trainer = self.trainer
        spare = max(trainer.left - self.kept, LEAST_SHARE * trainer.left)
        return min(trainer.allowance("interact"), self.left, spare)

    def _needed_for(self, chosen: tuple[Mend, ...]) -> float:
        """Seconds of which enough can go into confirming mends; 0 without any.

        They are confirmed beside another arm from as many seeds as can prove something.
        Where they leave much to be mended, combinations need the time.
        """
        enough = FAR_SHORT * self.trainer.missing
        if not chosen or value_of(self.screen, chosen) < enough:
            return 0.0
        arms = [Arm(name=BASELINE), *(a for m in chosen for a in with_controls(m))]
        seeds = self.trainer.seeds("confirm", LEAST_CONFIRMING)
        beside = self.trainer.cost(arms[:1], seeds)
        return (self.trainer.cost(arms, seeds) + beside) / SHARES["confirm"]

    def _likeliest(
        self,
        chosen: tuple[Mend, ...],
        mends: Mapping[Cause, Sequence[Mend]],
        best: Mapping[Cause, Mend],
    ) -> Round[tuple[Mend, ...]]:
        """Prefer all evident mends that help, together, to one that does not better."""
        evident = [
            m
            for m in best.values()
            if m.evident and is_promising(self.screen, m, self.floors)
        ]
        evident.sort(key=lambda m: -gain_of(self.screen, m).value)
        together: tuple[Mend, ...] = ()
        for mend in evident:
            fitting = self._beside(mend, together, mends)
            together = (*together, fitting) if fitting else together
        if len(together) < 2 or all(m in together for m in chosen):  # noqa: PLR2004
            return chosen
        yield from self._combined([together], "Do the likely mends help together?")
        now = value_of(self.screen, chosen)
        gain = value_of(self.screen, together)
        if gain < now + max(self.floors.material, 0.1 * now):
            return chosen
        return (yield from self._take_away(together, gain))

    def _at_its_own_rate(
        self,
        chosen: tuple[Mend, ...],
        mends: Mapping[Cause, Sequence[Mend]],
        best: Mapping[Cause, Mend],
    ) -> Round[tuple[Mend, ...]]:
        """Give evident mends a rate of their own beside a rate that does well alone.

        A rate that makes up for a wrong loss is far off once the loss is right.
        """
        rate = next((m for m in chosen if m.cause in RATES), None)
        if rate is None:
            return chosen
        rest = tuple(m for m in chosen if m != rate)
        likelier = [
            m
            for m in best.values()
            if m.evident
            and m not in chosen
            and goes_with(m, chosen)
            and is_promising(self.screen, m, self.floors)
        ]
        options = [
            (*rest, likely, other)
            for likely in likelier[:MOST_LIKELY]
            for other in between(mends[rate.cause], rate)
        ]
        if not options:
            return chosen
        yield from self._combined(options, "Would a likelier mend do at another rate?")
        top = max(options, key=lambda option: value_of(self.screen, option))
        now = value_of(self.screen, chosen)
        enough = now - 0.6 * self.floors.material
        return top if value_of(self.screen, top) >= enough else chosen

    def _substitute(
        self,
        chosen: tuple[Mend, ...],
        mends: Mapping[Cause, Sequence[Mend]],
        best: Mapping[Cause, Mend],
    ) -> Round[tuple[Mend, ...]]:
        """Let evident mends take the place of others beside which they do as well."""
        for part in chosen:
            if part.evident or part not in chosen:
                continue
            rest = tuple(m for m in chosen if m != part)
            likelier = [
                (m, option)
                for m in best.values()
                if m.evident
                and m.cause not in {c.cause for c in chosen}
                and is_promising(self.screen, m, self.floors)
                and (option := self._instead(m, rest, mends))
            ]
            if not likelier:
                continue
            yield from self._combined(
                [option for _, option in likelier],
                "Would a likelier mend do as well?",
            )
            without = value_of(self.screen, rest)
            options = [(part, chosen), *likelier]
            worth = [(m, value_of(self.screen, o) - without) for m, o in options]
            taken = first_to_name(worth)
            chosen = next(option for m, option in options if m == taken)
        return chosen

    def _instead(
        self,
        mend: Mend,
        rest: tuple[Mend, ...],
        mends: Mapping[Cause, Sequence[Mend]],
    ) -> tuple[Mend, ...] | None:
        """A mend with others, or with what of their kind goes with it."""
        taken: tuple[Mend, ...] = (mend,)
        for other in rest:
            fitting = self._beside(other, taken, mends)
            if fitting is None:
                return None
            taken = (*taken, fitting)
        return taken

    def _beside(
        self,
        mend: Mend,
        others: tuple[Mend, ...],
        mends: Mapping[Cause, Sequence[Mend]],
    ) -> Mend | None:
        """As `combination.beside`, from among what was screened."""
        options = mends.get(mend.cause, ())
        screened = [m for m in options if m.key in self.screen and not m.measuring]
        return beside(mend, others, screened)

    def _take_away(
        self, together: tuple[Mend, ...], gain: float
    ) -> Round[tuple[Mend, ...]]:
        """Leave each out in turn; what is missed stays.

        Where there is no time for all of that, what is dearest is left out for good,
        if it is not missed.
        """
        tolerance = max(0.6 * self.floors.material, 0.1 * gain)
        question = "What can be left out?"
        fewer = all_but_one(together)
        while len(together) > 2 and self._cost(*fewer) > self._allowance:  # noqa: PLR2004
            cheapest = min(fewer, key=self._cost)
            yield from self._combined([cheapest], question)
            if value_of(self.screen, cheapest) < gain - tolerance:
                break
            together, fewer = cheapest, all_but_one(cheapest)
        yield from self._combined(sorted(fewer, key=self._cost), question)
        missed = [
            left
            for left, rest in zip(together, fewer, strict=True)
            if value_of(self.screen, rest) < gain - tolerance
        ]
        kept = tuple(missed)
        if len(kept) == len(together):
            return kept
        if kept:
            yield from self._combined([kept], "Is what remains enough?")
        for _ in range(len(together)):
            if kept and value_of(self.screen, kept) >= gain - tolerance:
                break
            options = [(*kept, m) for m in together if m not in kept]
            if not options:
                break
            yield from self._combined(options, "What must be put back?")
            worth = [(option, value_of(self.screen, option)) for option in options]
            top = max(value for _, value in worth)
            kept = min(
                (option for option, value in worth if value >= top - tolerance / 2),
                key=lambda option: preference(option[-1]),
            )
        return kept

    def _add(
        self,
        chosen: tuple[Mend, ...],
        mends: Mapping[Cause, Sequence[Mend]],
        best: Mapping[Cause, Mend],
    ) -> Round[Mend | None]:
        """Add each other mend to the combination; take the best that is worth it.

        What data, network or recipe speak for is worth it where the gain counts;
        anything else must bring a good part of what there is already. Beside a gain too
        small for a fault, what neither helps alone nor has that for it is not tried,
        nor what there would be no time to confirm.
        """
        screen = self.screen
        now = value_of(screen, chosen)
        taken = {m.cause for m in chosen}
        others = [
            m
            for m in best.values()
            if m.cause not in taken and (m.urgent or gain_of(screen, m).value > 0)
        ]
        if now < self.floors.fault:
            others = [
                m for m in others if m.evident or is_promising(screen, m, self.floors)
            ]
        # What hides behind another fault seems of no use, or worse, by itself.
        gains = {m.key: gain_of(screen, m) for m in others}
        others.sort(
            key=lambda m: (
                not (m.evident and gains[m.key].high > -self.floors.material),
                -gains[m.key].value,
            )
        )
        fitting = [self._beside(m, chosen, mends) for m in others]
        most = self.trainer.effort.confirmed_causes
        options = [(*chosen, m) for m in fitting if m][:most]
        options = [option for option in options if self._may_be_confirmed(option)]
        if not options:
            return None
        yield from self._combined(options, "Does anything help in addition?")
        least = self.floors.material
        worth = [
            (option[-1], gain)
            for option in options
            if (gain := value_of(screen, option) - now)
            >= (least if option[-1].evident else max(least, 0.15 * now))
        ]
        return first_to_name(worth) if worth else None

    def _may_be_confirmed(self, mends: tuple[Mend, ...]) -> bool:
        """Whether there is time for a combination, less each part, and each alone."""
        arms = taken_apart(mends)
        arms += [arm for mend in mends for arm in with_controls(mend)]
        arms = list({arm.name: arm for arm in arms}.values())
        return self.trainer.may_confirm(arms)

    def _combined(
        self, combinations: Iterable[tuple[Mend, ...]], question: str
    ) -> Round[None]:
        """Train combinations on the screening seeds, beside what is already there."""
        yield from self._extend([compose(c) for c in combinations if c], question)

    def _extend(self, wanted: Sequence[Arm], question: str) -> Round[None]:
        trainer = self.trainer
        arms = [arm for arm in wanted if arm.name not in self.screen]
        seeds = trainer.screening_seeds
        allowance = self._allowance
        fitting: list[Arm] = []
        for arm in arms:
            if trainer.cost([*fitting, arm], seeds) > allowance:
                trainer.limit(Untried(arm.name))
                continue
            fitting.append(arm)
        if not fitting:
            return
        before = trainer.ledger.seconds
        more = yield from trainer.train("interact", question, fitting, seeds)
        self.left -= trainer.ledger.seconds - before
        self.screen.extend(more)
