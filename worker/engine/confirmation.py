"""The round `confirm`: survivors on fresh seeds, alone and within the combination."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from service.contract.causes import Cause
from worker.engine.check import Mend
from worker.engine.choices import (
    best_single,
    gain_of,
    is_promising,
    shares_of_error,
    value_of,
)
from worker.engine.combination import (
    EVIDENT_SHARE,
    all_but_one,
    compose,
    first_to_name,
    name,
    on_top,
    parts_of,
    preference,
    taken_apart,
    with_controls,
)
from worker.engine.lab.experiment import Arm, RecipeChange
from worker.engine.ledger import Round, Unconfirmed
from worker.engine.refinement import BY_CHANCE
from worker.engine.results import BASELINE, Results
from worker.engine.stats.decisions import LOOKS
from worker.engine.stats.pairs import PairedGain
from worker.engine.trainer import (
    LEAST_ARMS,
    LEAST_CONFIRMING,
    LEAST_SEEDS,
    Trainer,
)

MOST_CONFIRMING = 32
SHARE_FOR_MORE = 0.5  # of the time left, that more seeds may take
KEPT_FOR_REPAIR = 0.2  # of the budget, once something is proven to help
MOST_OF_IT = 0.85  # of the time left; the repaired model needs the rest
UNTRIED = 0.5  # of the way between what is known to gain less and more
MUCH = 0.08  # balanced accuracy; what loses that by a cut is confirmed from few seeds
CLEARLY_WORSE = 0.02  # balanced accuracy under the baseline; such a control is settled

Shares = Mapping[Cause, float]  # see `choices.shares_of_error`


class Confirmation:
    """Trains again, on fresh seeds, what the screen liked.

    Attributes:
        is_brief: whether there is time for a combination less each of its parts, and
            for none of these alone.
    """

    def __init__(
        self,
        trainer: Trainer,
        screen: Results,
        mends: Mapping[Cause, Sequence[Mend]],
    ) -> None:
        self.trainer = trainer
        self.screen = screen
        self.mends = mends
        self.floors = trainer.floors
        self.is_brief = False

    def affordable(self, chosen: tuple[Mend, ...]) -> tuple[Mend, ...]:
        """Leave parts out of a combination that there is no time to confirm.

        None of which is known that the rest is nothing without it: then as many arms
        are confirmed as there is time for. Where the rest does far worse, few seeds
        tell what is missed, too, so that the combination is taken apart from few.
        """
        seeds = self.trainer.seeds("confirm", LEAST_CONFIRMING)
        allowance = self.trainer.allowance("confirm")

        def cost(mends: tuple[Mend, ...]) -> float:
            return self.trainer.cost(self._arms_of(mends), seeds)

        while len(chosen) > 1 and cost(chosen) > allowance:
            whole = value_of(self.screen, chosen)
            options = all_but_one(chosen)
            worth = [self._hoped(option, chosen) for option in options]
            best, kept = max(
                zip(worth, options, strict=True),
                key=lambda item: (item[0], -cost(item[1])),
            )
            brief = _with_rivals(chosen)
            self.is_brief = whole - best >= MUCH and self.trainer.may_confirm(brief)
            if self.is_brief or best < UNTRIED * whole:
                break
            alike = [option for option in options if self._may_do_as_well(option, kept)]
            kept = min(
                [kept, *alike],
                key=lambda option: (
                    cost(option) > allowance,
                    not all(mend.evident for mend in option),
                    cost(option),
                ),
            )
            kept = self._best_alone(kept)
            self.trainer.limit(Unconfirmed(name(chosen), name(kept)))
            chosen = kept
        return chosen

    def _may_do_as_well(self, option: tuple[Mend, ...], best: tuple[Mend, ...]) -> bool:
        """Whether the screen hardly tells an option from the best of them.

        Then what something speaks for is likelier, and what is cheap is confirmed from
        more seeds, which tell more.
        """
        if name(option) not in self.screen or name(best) not in self.screen:
            return False
        ahead = self.screen.gain(name(best), over=name(option))
        return ahead.value <= ahead.error

    def _hoped(self, option: tuple[Mend, ...], chosen: tuple[Mend, ...]) -> float:
        """What a part of a combination gains or may be hoped to gain.

        Where it was not tried, half of the way from the best that is in it to the best
        that it is in, without the mends that it leaves out.
        """
        if name(option) in self.screen:
            return value_of(self.screen, option)
        kept = {mend.key for mend in option}
        left_out = {mend.key for mend in chosen} - kept
        low, high = [0.0], []
        for arm in self.screen.arms:
            parts = parts_of(arm)
            if parts < kept:
                low.append(self.screen.gain(arm).value)
            elif parts > kept and not parts & left_out:
                high.append(self.screen.gain(arm).value)
        most = max(high, default=value_of(self.screen, chosen))
        return UNTRIED * (max(low) + max(*low, most))

    def _best_alone(self, kept: tuple[Mend, ...]) -> tuple[Mend, ...]:
        """Answer a cause that is left alone by what did best alone, not in company."""
        if len(kept) > 1:
            return kept
        [mend] = kept
        answers = [
            m
            for m in (mend, *self.mends.get(mend.cause, ()))
            if m.key in self.screen and not m.measuring
        ]
        best = max(answers, key=lambda m: self.screen.accuracy(m.key), default=mend)
        return (best,)

    def confirm(
        self, chosen: tuple[Mend, ...], best: Mapping[Cause, Mend]
    ) -> Round[Results | None]:
        """Train what survived on fresh seeds, more of them while a gain stays open.

        Returns:
            What came out; None where nothing survived the screen, or nothing can be
            compared since the baseline could not be trained.
        """
        trainer = self.trainer
        shares = shares_of_error(self.mends, best)
        singles = self._singles(chosen, best)
        measuring = self._worth_measuring(chosen)
        if not singles and not measuring:
            return None
        arms = self._arms(chosen, singles, measuring)
        seeds = trainer.seeds("confirm", trainer.effort.confirm_seeds)
        core = self._arms_of(chosen)
        core += [self._within(chosen, m) for m in measuring if m.evident and chosen]
        arms, first = trainer.fit(
            arms, seeds, trainer.allowance("confirm"), core=len(core)
        )
        arms, late = self._postponed(arms, core, first)
        told_together = self._told_together(chosen, measuring)
        arms, apart = _whole_groups(arms, told_together)
        late += apart
        question = "Does the gain hold on fresh seeds?"
        results = yield from trainer.train("confirm", question, arms, first)
        if BASELINE not in results:
            return None
        seeds, kept = first, 0.0
        while len(seeds) < MOST_CONFIRMING:
            known, parts = len(seeds), []
            if self._is_mended(results, chosen, shares):
                if self._any_part_proven(results, chosen, shares):
                    parts = self._open_parts(results, chosen, shares)
                kept = KEPT_FOR_REPAIR * trainer.effort.seconds
                singles = [
                    m
                    for m in singles
                    if m.key in results
                    and self._is_open(results, [m], shares)
                    and not self._adds_nothing(results, chosen, m)
                ]
                is_early = known <= trainer.effort.confirm_seeds
                measured = measuring if is_early else ()
                arms = self._still_asked(arms, chosen, singles, parts, measured)
            seeds = self._more(arms, known, kept)
            arms = self._within_time(arms, seeds[known:], kept)
            names = {arm.name for arm in arms}
            singles = [m for m in singles if m.key in names]
            parts = [m for m in parts if name(p for p in chosen if p != m) in names]
            is_open = self._is_undecided(results, singles, chosen, shares)
            if len(arms) < LEAST_ARMS or not (is_open or parts):
                break
            more = yield from trainer.train(
                "confirm",
                "Do more fresh seeds decide what is still open?",
                arms,
                seeds[known:],
            )
            results = results.joined(more)
        late, _ = _whole_groups(self._within_time(late, first, kept), told_together)
        if late:
            more = yield from trainer.train("confirm", question, late, first)
            results.extend(more)
        return results

    def _told_together(
        self, chosen: tuple[Mend, ...], measuring: Sequence[Mend]
    ) -> list[set[str]]:
        """Names of a cause's measuring arms that tell something only together."""
        found: dict[Cause, set[str]] = {}
        for mend in (m for m in measuring if not m.by_itself):
            arm = self._within(chosen, mend).name if chosen else mend.key
            found.setdefault(mend.cause, set()).add(arm)
        return list(found.values())

    def measure_alone(
        self,
        confirm: Results | None,
        together: tuple[Mend, ...],
        chosen: tuple[Mend, ...],
    ) -> Round[None]:
        """Measure as it is what was measured beside a combination that did not hold.

        Args:
            confirm: what came out on fresh seeds; what is trained here is added.
            together: the combination that was confirmed.
            chosen: what is left of it.
        """
        if confirm is None or chosen or not together:
            return
        arms = [
            Arm(name=m.key, changes=m.changes)
            for m in self._worth_measuring(())
            if m.key not in confirm
        ]
        trained = len(confirm.arms[BASELINE].correct)
        count = min(trained, self.trainer.effort.confirm_seeds)
        seeds = self.trainer.seeds("confirm", count)
        arms = self._within_time(arms, seeds)
        if arms:
            question = "What does it bring as it is?"
            more = yield from self.trainer.train("confirm", question, arms, seeds)
            confirm.extend(more)

    def narrow(
        self,
        confirm: Results | None,
        together: tuple[Mend, ...],
        best: Mapping[Cause, Mend],
    ) -> Round[tuple[Results | None, tuple[Mend, ...]]]:
        """Find what of a combination is needed, where it helps and no part is proven.

        In one that holds more than is needed each part is missed little, as others
        stand in for it. So what is idle is left out, one mend after the other, with
        what is left taken apart on the same seeds, and what is then missed by as much
        as counts is asked of more of them.

        Args:
            confirm: what came out on fresh seeds.
            together: the combination that was confirmed.
            best: the best mend of each cause.

        Returns:
            The results with what was trained here, and what is left to take apart.
        """
        if confirm is None or len(together) == 1:
            return confirm, together
        shares = shares_of_error(self.mends, best)
        if not self._is_mended(confirm, together, shares):
            return confirm, together
        if self._any_part_proven(confirm, together, shares):
            return confirm, together
        chosen = together
        seeds = self.trainer.seeds("confirm", len(confirm.arms[name(together)].correct))
        while (fewer := self._without_the_idlest(confirm, chosen)) is not None:
            arms = [arm for arm in taken_apart(fewer) if arm.name not in confirm]
            if not self._fits(arms, seeds):
                break
            if arms:
                question = "What of that is needed?"
                more = yield from self.trainer.train("confirm", question, arms, seeds)
                confirm.extend(more)
            chosen = fewer
        while len(seeds) < MOST_CONFIRMING and self._open_parts(
            confirm, chosen, shares
        ):
            known, arms = len(seeds), taken_apart(chosen)
            seeds = self._more(arms, known)
            if not self._fits(arms, seeds[known:]):
                break
            question = "Do more fresh seeds tell which of that is needed?"
            more = yield from self.trainer.train(
                "confirm", question, arms, seeds[known:]
            )
            if any(arm.name not in more for arm in arms):
                break
            confirm = confirm.joined(more)
        return confirm, chosen

    def _missed(
        self, results: Results, chosen: tuple[Mend, ...], mend: Mend
    ) -> PairedGain | None:
        """What a part brings to a combination; None where that was not trained."""
        without = name([m for m in chosen if m != mend]) or BASELINE
        if name(chosen) not in results or without not in results:
            return None
        return results.gain(name(chosen), over=without)

    def _is_part_proven(
        self, results: Results, chosen: tuple[Mend, ...], mend: Mend, shares: Shares
    ) -> bool:
        """Whether a part's gain is proven, alone or beside the others."""
        alone = gain_of(results, mend) if mend.key in results else None
        return any(
            gain is not None
            and gain.value >= self.floors.material
            and self._is_proven(gain, [mend], shares)
            for gain in (alone, self._missed(results, chosen, mend))
        )

    def _open_parts(
        self, results: Results, chosen: tuple[Mend, ...], shares: Shares
    ) -> list[Mend]:
        """List the parts that bring a combination what counts, yet is not proven."""
        found = []
        for mend in chosen if len(chosen) > 1 else ():
            gain = self._missed(results, chosen, mend)
            if gain is None or gain.value < self.floors.material:
                continue
            if not self._is_part_proven(results, chosen, mend, shares):
                found.append(mend)
        return found

    def _any_part_proven(
        self, results: Results, chosen: tuple[Mend, ...], shares: Shares
    ) -> bool:
        """Whether some part is; else it is told first what is needed (`narrow`)."""
        return any(
            self._is_part_proven(results, chosen, mend, shares) for mend in chosen
        )

    def _postponed(
        self, arms: list[Arm], core: list[Arm], seeds: tuple[int, ...]
    ) -> tuple[list[Arm], list[Arm]]:
        """Put off the costliest arms where the combination may need their time.

        An unstable recipe takes many seeds to be judged; what one costly arm would tell
        beside it, a network four times as wide, say, can wait until that is settled.

        Returns:
            What to train at once, and what to train later.
        """
        trainer, needed = self.trainer, {arm.name for arm in core}
        # Twice as many seeds, and twice again.
        reserve = 3 * trainer.cost(core, seeds)
        late: list[Arm] = []
        while trainer.cost(arms, seeds) + reserve > MOST_OF_IT * trainer.left:
            others = [arm for arm in arms if arm.name not in needed]
            if not others:
                break
            dearest = max(others, key=lambda arm: trainer.cost([arm], seeds))
            arms = [arm for arm in arms if arm != dearest]
            late.insert(0, dearest)
        return arms, late

    def _more(
        self, arms: Sequence[Arm], known: int, kept: float = 0.0
    ) -> tuple[int, ...]:
        """As many seeds again or, where there is no time for these, fewer."""
        more = min(known, MOST_CONFIRMING - known)
        while more > LEAST_SEEDS:
            seeds = self.trainer.seeds("confirm", known + more)
            if self._fits(arms, seeds[known:], kept):
                return seeds
            more = max(LEAST_SEEDS, more // 2)
        return self.trainer.seeds("confirm", known + more)

    def _fits(
        self, arms: Sequence[Arm], seeds: tuple[int, ...], kept: float = 0.0
    ) -> bool:
        """Whether a half of the time left pays for arms, less the seconds kept."""
        left = self.trainer.left
        return self.trainer.cost(arms, seeds) <= min(SHARE_FOR_MORE * left, left - kept)

    def _within_time(
        self, arms: list[Arm], seeds: tuple[int, ...], kept: float = 0.0
    ) -> list[Arm]:
        """The first arms, as many as a half of the time left pays for."""
        arms = list(arms)
        while arms and not self._fits(arms, seeds, kept):
            arms.pop()
        return arms

    def settle(
        self,
        confirm: Results | None,
        chosen: tuple[Mend, ...],
        best: Mapping[Cause, Mend],
    ) -> tuple[Mend, ...]:
        """Drop from the combination what fresh seeds do not bear out.

        Where one mend is enough, fresh seeds may show that a likelier one does as well.
        """
        if confirm is None:
            return ()
        shares = shares_of_error(self.mends, best)
        material = self.floors.material
        if len(chosen) == 1:
            known = [
                (m, gain_of(confirm, m)) for m in best.values() if m.key in confirm
            ]
            worth = [
                (m, gain)
                for m, gain in known
                if gain.value >= material
                and (
                    m in chosen
                    or self._is_proven(gain, [m], shares)
                    or self._is_proven_beside(confirm, chosen, m, shares)
                )
            ]
            if not worth:
                return ()
            values = [(m, gain.value) for m, gain in worth]
            return (first_to_name(values, [gain.error for _, gain in worth]),)
        whole = name(chosen)
        if whole not in confirm:
            parts = {m.cause: m for m in chosen if m.key in confirm}
            return best_single(confirm, parts, self.floors)
        while len(chosen) > 1:
            fewer = self._without_the_idlest(confirm, chosen)
            if fewer is None:
                return self._by_rivals(confirm, chosen)
            chosen = fewer
        [mend] = chosen
        return chosen if gain_of(confirm, mend).value >= material else ()

    def _by_rivals(
        self, confirm: Results, chosen: tuple[Mend, ...]
    ) -> tuple[Mend, ...]:
        """Put the rival of a mend in its place where that does as well there.

        Another optimiser in the best combination may be no better than the given one at
        its own best rate: then the rate is what was wrong.
        """
        for mend in chosen:
            if mend.rival is None:
                continue
            other = (*(m for m in chosen if m != mend), mend.rival)
            if name(other) not in confirm:
                continue
            gain = confirm.gain(name(chosen), over=name(other))
            if gain.value < self.floors.material:
                chosen = other
        return chosen

    def _without_the_idlest(
        self, confirm: Results, chosen: tuple[Mend, ...]
    ) -> tuple[Mend, ...] | None:
        """Leave out what is not missed: one mend, as others may stand in for it.

        Returns:
            None where each is missed. What there was no time to leave out stays: the
            whole was confirmed.
        """
        material, idle = self.floors.material, []
        for mend in chosen:
            rest = tuple(m for m in chosen if m != mend)
            gain = self._missed(confirm, chosen, mend) if rest else None
            if gain is not None and gain.value < material:
                idle.append((mend, value_of(confirm, rest)))
        if not idle:
            return None
        best = max(value for _, value in idle)
        near = [m for m, value in idle if value >= best - material / 2]
        # What speaks for an evident one by itself does not lose to chance.
        others = [m for m, value in idle if value >= best - material and not m.evident]
        left_out = max(others or near, key=preference)
        return tuple(m for m in chosen if m != left_out)

    def enriched(
        self,
        confirm: Results | None,
        together: tuple[Mend, ...],
        chosen: tuple[Mend, ...],
        best: Mapping[Cause, Mend],
    ) -> tuple[Mend, ...]:
        """Add to what was borne out what else did the repaired model good.

        Too little to be named as a cause, or not likely enough, yet the best that was
        seen: another mend alone, too.
        """
        if confirm is None or name(chosen) not in confirm or not chosen:
            return chosen
        others = [m for m in best.values() if m.cause not in {c.cause for c in chosen}]
        options = [(*chosen, m) for m in others]
        known = [*together, *(m.rival for m in together if m.rival)]
        if together != chosen and all(m in known for m in chosen):
            causes = {m.cause for m in together}
            options += [together]
            options += [(*together, m) for m in others if m.cause not in causes]
        floors = self.floors
        better = _best_over(
            confirm, chosen, options, lambda gain: max(floors.proven, gain.error)
        )
        if better is None and len(chosen) == 1:  # another, if it is surely better
            alone = [(m,) for m in others]
            better = _best_over(
                confirm, chosen, alone, lambda g: max(floors.material, 2 * g.error)
            )
        return better or chosen

    def as_hoped(
        self, hoped: tuple[Mend, ...], repaired: tuple[Mend, ...]
    ) -> tuple[Mend, ...]:
        """Repair by all of a combination that there was no time to confirm in full.

        What more it brings was seen by the screen alone: nothing is named by that. The
        repaired model is judged by itself.

        Args:
            hoped: the best combination of the screen.
            repaired: what was borne out of it.
        """
        whole, now = name(hoped), name(repaired)
        causes = {mend.cause for mend in hoped}
        if (
            not all(mend.cause in causes for mend in repaired)
            or len(hoped) <= len(repaired)
            or not repaired
            or not {whole, now} <= set(self.screen.arms)
        ):
            return repaired
        gain = self.screen.gain(whole, over=now)
        return hoped if gain.p_above(self.floors.proven) <= BY_CHANCE else repaired

    def _singles(
        self, chosen: tuple[Mend, ...], best: Mapping[Cause, Mend]
    ) -> list[Mend]:
        """Mends to confirm alone: the combination's parts, then other survivors."""
        survivors = sorted(
            (m for m in best.values() if is_promising(self.screen, m, self.floors)),
            key=lambda m: -gain_of(self.screen, m).value,
        )
        singles = [m for m in chosen if m.key in self.screen]
        singles += [m for m in survivors if m not in singles]
        return singles[: max(len(chosen), self.trainer.effort.confirmed_causes)]

    def _worth_measuring(self, chosen: tuple[Mend, ...]) -> list[Mend]:
        """Measuring arms whose effect is large enough to be measured better.

        With something mended they are measured anew, whatever a broken baseline showed,
        or if there was no time for them beside it. Of a subsample, better figures would
        tell no more of all rows.
        """
        if self.trainer.rows is not None:
            return []
        found: list[Mend] = []
        for options in self.mends.values():
            # Only all of a cause's arms together tell something.
            arms = [m for m in options if m.measuring]
            tried = [m.key for m in arms if m.key in self.screen]
            seen = [abs(self.screen.gain(key).value) for key in tried]
            if chosen or (seen and max(seen) >= self.floors.material):
                found += arms
        return found

    def _arms(
        self,
        chosen: tuple[Mend, ...],
        singles: Sequence[Mend],
        measuring: Sequence[Mend],
    ) -> list[Arm]:
        """All arms, in the order in which they are given up, last to first."""
        arms = self._arms_of(chosen)
        others = [m for m in singles if m not in chosen]
        tried = [*measuring, *others] if chosen else others
        for mend in sorted(tried, key=lambda m: not m.evident):
            if mend.measuring:
                arms.append(self._within(chosen, mend))
            else:
                arms += [*self._open_controls(mend), *on_top(chosen, mend)]
        arms += [Arm(name=m.key, changes=m.changes) for m in measuring if not chosen]
        return list({arm.name: arm for arm in arms}.values())

    def _arms_of(self, chosen: tuple[Mend, ...]) -> list[Arm]:
        """The baseline, the whole, all but one, and the combination's parts alone."""
        alone: list[Arm] = []
        if not self.is_brief:
            for mend in sorted(chosen, key=lambda m: -value_of(self.screen, [m])):
                alone += self._open_controls(mend)
        return _with_rivals(chosen, alone)

    def _open_controls(self, mend: Mend) -> list[Arm]:
        """A mend with those controls that might do as well as the baseline."""
        level = self.screen.accuracy(BASELINE) - CLEARLY_WORSE
        return [
            arm
            for arm in with_controls(mend)
            if arm.name == mend.key
            or arm.name not in self.screen
            or self.screen.accuracy(arm.name) > level
        ]

    def _within(self, chosen: tuple[Mend, ...], mend: Mend) -> Arm:
        """A measuring mend beside the combination, as many updates as that makes."""
        given = self.trainer.subject.recipe.epochs
        longer = [(m.patch or {}).get("epochs") for m in chosen]
        times = next((e / given for e in longer if e), 1.0)
        own = (mend.patch or {}).get("epochs", given)
        change = RecipeChange(patch={"epochs": max(1, round(own * times))})
        return compose([*chosen, replace(mend, changes=(*mend.changes, change))])

    def _is_mended(
        self, results: Results, chosen: tuple[Mend, ...], shares: Shares
    ) -> bool:
        """Whether the combination is proven to help."""
        whole = name(chosen)
        return whole in results and self._is_proven(results.gain(whole), chosen, shares)

    def _adds_nothing(
        self, results: Results, chosen: tuple[Mend, ...], mend: Mend
    ) -> bool:
        """Whether a mend is of no use beside the others, so that they explain it."""
        rest = [m for m in chosen if m.cause != mend.cause]
        whole, without = name([*rest, mend]), name(rest)
        if mend in chosen or whole not in results or without not in results:
            return False
        gain = results.gain(whole, over=without)
        if gain.value + gain.error >= self.floors.material:
            return False
        if mend.key not in results:  # there was no time to train it alone
            return True
        # A likelier one that does nearly as well may yet be named in their place.
        alone, top = gain_of(results, mend), results.gain(name(chosen)).value
        is_likelier = preference(mend) < min(map(preference, chosen))
        is_near = alone.value + alone.error >= EVIDENT_SHARE * top
        return not (is_likelier and is_near)

    def _still_asked(
        self,
        arms: Sequence[Arm],
        chosen: tuple[Mend, ...],
        singles: Sequence[Mend],
        parts: Sequence[Mend],
        measuring: Sequence[Mend],
    ) -> list[Arm]:
        """Leave out the arms that tell nothing of what is still asked.

        Args:
            arms: that were trained so far.
            chosen: the combination, which is proven.
            singles: mends that are open beside it.
            parts: what of it is open.
            measuring: what is measured within it.
        """
        asked = {BASELINE, name(chosen)}
        asked |= {self._within(chosen, mend).name for mend in measuring}
        for mend in singles:
            asked |= {a.name for a in self._open_controls(mend)}
            asked |= {a.name for a in on_top(chosen, mend)}
        for mend in (*singles, *parts):
            asked.add(name([m for m in chosen if m != mend]))
        return [arm for arm in arms if arm.name in asked]

    def _is_open(self, results: Results, made: Sequence[Mend], shares: Shares) -> bool:
        """Whether a gain counts, and is not proven yet."""
        gain = gain_of(results, made[0]) if len(made) == 1 else results.gain(name(made))
        is_material = gain.value >= self.floors.material
        return is_material and not self._is_proven(gain, made, shares)

    def _is_undecided(
        self,
        results: Results,
        singles: Sequence[Mend],
        chosen: tuple[Mend, ...],
        shares: Shares,
    ) -> bool:
        """Whether a gain that counts is not proven yet, nor ruled out.

        Of a combination none of whose parts helps alone, the whole is asked.
        """
        asked: list[Sequence[Mend]] = [[m] for m in singles if m.key in results]
        if len(chosen) > 1 and name(chosen) in results:
            asked.append(chosen)
        return any(self._is_open(results, made, shares) for made in asked)

    def _is_proven_beside(
        self, results: Results, chosen: tuple[Mend, ...], mend: Mend, shares: Shares
    ) -> bool:
        """Whether a mend's gain is proven with the chosen ones made, too."""
        whole = name([*chosen, mend])
        if whole not in results or name(chosen) not in results:
            return False
        rivals = [name([*chosen, mend.rival])] if mend.rival else []
        gain = results.gain_over_best(whole, rivals, over=name(chosen))
        is_material = gain.value >= self.floors.material
        return is_material and self._is_proven(gain, [mend], shares)

    def _is_proven(
        self, gain: PairedGain, made: Sequence[Mend], shares: Shares
    ) -> bool:
        """Whether a gain will be found: among so many, looked at alone and on top."""
        allowed = self.floors.error_rate * max(shares[mend.cause] for mend in made)
        return LOOKS * gain.p_above(self.floors.proven) <= allowed


def _with_rivals(chosen: tuple[Mend, ...], alone: Sequence[Arm] = ()) -> list[Arm]:
    """A combination taken apart, arms alone, and what a part must beat in company."""
    arms = taken_apart(chosen) if len(chosen) > 1 else [Arm(name=BASELINE)]
    arms += [*alone, *(arm for mend in chosen for arm in on_top(chosen, mend))]
    return list({arm.name: arm for arm in arms}.values())


def _best_over(
    results: Results,
    chosen: tuple[Mend, ...],
    options: Sequence[tuple[Mend, ...]],
    least: Callable[[PairedGain], float],
) -> tuple[Mend, ...] | None:
    """The option that gains most over what is chosen, of those that gain enough."""
    gains = [
        (option, results.gain(name(option), over=name(chosen)))
        for option in options
        if name(option) in results
    ]
    worth = [
        (option, gain.value) for option, gain in gains if gain.value >= least(gain)
    ]
    return max(worth, key=lambda item: item[1])[0] if worth else None


def _whole_groups(
    arms: Sequence[Arm], groups: Iterable[set[str]]
) -> tuple[list[Arm], list[Arm]]:
    """Take apart from the others the arms of groups of which some are missing."""
    names = {arm.name for arm in arms}
    broken = {name for group in groups if not group <= names for name in group}
    return (
        [arm for arm in arms if arm.name not in broken],
        [arm for arm in arms if arm.name in broken],
    )
