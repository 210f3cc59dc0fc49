import numpy as np
import pytest

from service.contract.causes import Cause
from tests.builders_engine import HEADER, World, make_subject, no_effect
from worker.engine.auditor import propose
from worker.engine.catalog import CATALOG
from worker.engine.check import Case, Mend
from worker.engine.checks.insufficient_data import InsufficientData
from worker.engine.checks.learning_rate_too_low import LearningRateTooLow
from worker.engine.conclusion import conclude
from worker.engine.lab.experiment import (
    Arm,
    NetworkChange,
    RecipeChange,
    pack_mask,
)
from worker.engine.planning import Costs
from worker.engine.results import Results
from worker.engine.screening import (
    at_full_length,
    look_again,
    may_borrow,
    screen_mends,
)
from worker.engine.splits import spared_rows
from worker.engine.trainer import Trainer
from worker.engine.wording import FULL_LENGTH


def test_a_subsample_does_not_look_like_too_little_training():
    trainer = Trainer(make_subject())
    trainer.rows = 300  # of 1,200
    plain, _ = propose(trainer.subject, CATALOG, {})

    fair = at_full_length(trainer, plain)

    for cause in (Cause.INSUFFICIENT_TRAINING, Cause.LEARNING_RATE_TOO_LOW):
        for tried in fair[cause]:
            assert tried.control == (RecipeChange(patch={"epochs": 160}),)
            assert tried.control_arm == "full length|control"
    wider = {m.key: m.control_arm for m in fair[Cause.INSUFFICIENT_CAPACITY]}
    assert wider["width×4"] == "full length|control"
    assert wider["width×4, lr÷3"] == "width×4, lr÷3|control"  # its rate alone
    assert fair[Cause.UNSCALED_INPUTS] == plain[Cause.UNSCALED_INPUTS]


@pytest.mark.parametrize(("longest", "is_free"), [(200, True), (100, False)])
def test_a_control_on_another_arms_way_is_read_off_at_once(longest, is_free):
    trainer = Trainer(make_subject())
    trainer.rows = 300  # of 1,200: 160 epochs make as many updates
    longer = [
        Mend(
            Cause.INSUFFICIENT_TRAINING,
            f"epochs={epochs}",
            "Train longer",
            (RecipeChange(patch={"epochs": epochs}),),
        )
        for epochs in (80, longest)
    ]
    mends = at_full_length(trainer, {Cause.INSUFFICIENT_TRAINING: longer})

    ask = next(screen_mends(trainer, mends, 0.0))

    for seed in trainer.screening_seeds:
        names = [a.name for t in ask.experiments if seed in t.seeds for a in t.arms]
        assert ("full length|control" in names) is is_free
        assert len(names) == len(set(names))


def test_training_rows_unlike_the_held_out_ones_do_not_decide():
    subject = make_subject(decide_rows=300, may_borrow=True)
    world = World(subject, base=0.8, effect=no_effect, on_spared=0.15)

    learned = world.audit()

    assert learned.screen is not None
    assert len(learned.screen.rows.labels) == 300
    assert learned.better_on_spared is not None
    assert learned.better_on_spared.value == pytest.approx(0.15, abs=0.08)
    assert all(t.folds is None for t in world.trained if t.round == "confirm")


@pytest.mark.parametrize(
    ("train", "held_out", "decide"),
    [(0.2, 0.0, False), (0.2, 0.04, False), (0.2, 0.15, True), (0.005, 0.0, True)],
)
def test_training_rows_with_corrupted_values_decide_only_beside_such(
    train, held_out, decide
):
    shares = {"plainly_affected": train, "held_out_affected": held_out}
    measures = {"inputs": {"affected": 0.3, **shares}}
    trainer = Trainer(make_subject(decide_rows=300, may_borrow=True))
    mends, _ = propose(trainer.subject, CATALOG, {})
    corrupted = {**mends, Cause.CORRUPTED_INPUTS: mends[Cause.UNSCALED_INPUTS]}

    assert may_borrow(trainer, mends, measures)
    assert may_borrow(trainer, corrupted, measures) is decide
    assert not may_borrow(trainer, corrupted, {})


@pytest.mark.parametrize(
    ("mix", "inputs", "noise", "decide"),
    [
        (1e-9, 0.4, 0.0, False),  # like inputs, other labels: some are wrong
        (1e-9, 0.4, 0.2, True),  # and it is known how many
        (1e-9, 1e-9, 0.0, True),  # the inputs moved along
        (0.3, 0.4, 0.0, True),
    ],
)
def test_training_rows_of_another_mix_do_not_decide_where_labels_may_be_wrong(
    mix, inputs, noise, decide
):
    shift = {
        "label_shift": {"p_value": mix, "distance": 0.3},
        "any_class": {"p_value": inputs},
    }
    measures = {"shift": shift, "noise": {"rate": {"value": noise}}}
    trainer = Trainer(make_subject(decide_rows=300, may_borrow=True))
    mends, _ = propose(trainer.subject, CATALOG, {})

    assert may_borrow(trainer, mends, measures) is decide


def test_training_rows_with_wrong_labels_decide_once_their_noise_is_taken_out():
    subject = make_subject(decide_rows=900, counts=(300, 300, 300), may_borrow=True)
    flags = np.arange(900) % 5 == 0
    noise = {
        "rate": {"value": 0.2, "low": 0.17},
        "mask": pack_mask(flags),
        "random_mask": pack_mask(np.roll(flags, 1)),
    }
    # A fifth of the labels is wrong: of .8 there .66 is left.
    world = World(
        subject,
        base=0.8,
        effect=no_effect,
        measures={"noise": noise},
        on_spared=0.8 * 0.8 + 0.2 * 0.1 - 0.8,
    )

    learned = world.audit()

    assert learned.screen is not None
    assert len(learned.screen.rows.labels) == 900 + 900
    assert learned.screen.accuracy("baseline") == pytest.approx(0.8, abs=0.03)
    assert any("20 % of their labels" in limit for limit in learned.ledger.limits)


def test_classes_too_small_to_be_divided_leave_the_decision_to_held_out_rows():
    small = make_subject(decide_rows=300, counts=(6, 6, 6), may_borrow=True)
    mends, _ = propose(small, CATALOG, {})

    assert not may_borrow(Trainer(small), mends, {})


def long_at(*rates: float) -> list[Mend]:
    """Mends that train ten times as long, at other rates."""
    return [
        Mend(
            Cause.LEARNING_RATE_TOO_LOW,
            f"lr={rate}",
            "Raise it",
            (RecipeChange(patch={"optimizer": {"lr": rate}, "epochs": 400}),),
        )
        for rate in rates
    ]


def test_a_mend_that_takes_much_of_the_screen_waits_for_the_others():
    trainer = Trainer(make_subject())
    wide = Mend(
        Cause.INSUFFICIENT_CAPACITY,
        "width×8",
        "Widen",
        (NetworkChange(name="width", factor=8.0),),
        urgent=True,
    )
    rates = long_at(0.01, 0.1)
    mends = {wide.cause: [wide], Cause.LEARNING_RATE_TOO_LOW: rates}
    seeds, allowance = trainer.screening_seeds, trainer.allowance("screen")
    unit = trainer.cost([Arm(name="width×8", changes=wide.changes)], seeds)
    trainer.costs = Costs(one=0.0, each=0.9 * allowance / unit * trainer.costs.each)

    ask = next(screen_mends(trainer, mends, 0.0))

    tried = {arm.name for training in ask.experiments for arm in training.arms}
    assert tried == {"baseline", "lr=0.01", "lr=0.1"}


def longer_helps(arm: Arm) -> float:
    return 0.1 * any("epochs" in getattr(c, "patch", {}) for c in arm.changes)


@pytest.mark.parametrize(
    ("evident", "share", "seeds"), [(True, 0.25, 1), (False, 0.25, 0), (True, 2.0, 0)]
)
def test_what_speaks_for_itself_is_tried_once_however_dear(evident, share, seeds):
    """Unless it is far too dear; and its control alone does not count as a try."""
    trainer = Trainer(make_subject())
    wide = NetworkChange(name="width", factor=8.0)
    slow = RecipeChange(patch={"optimizer": {"lr": 1e-4}})
    dear = Mend(
        Cause.UNSUITABLE_LAYERS,
        "wide and slow",
        "Use it",
        (wide, slow),
        control=(slow,),
        urgent=True,
        evident=evident,
    )
    rates = long_at(0.01, 0.1, 0.3)
    mends = {dear.cause: [dear], Cause.LEARNING_RATE_TOO_LOW: rates}
    one = trainer.cost([Arm(name="wide", changes=dear.changes)], (0,))
    step = share * trainer.allowance("screen") / one * trainer.costs.each
    trainer.costs = Costs(one=0.0, each=step)
    world = World(trainer.subject, base=0.6, effect=longer_helps, step_seconds=step)

    screen, skipped = world.through(screen_mends(trainer, mends, 0.0))

    tried = len(screen.levels(dear.key)) if dear.key in screen else 0
    assert tried == seeds
    assert (dear.cause in skipped) is (seeds == 0)


class Contradicted(World):
    """A world in which the labels of the training rows say nothing."""

    def _trial(self, arm, seed, training):
        trial = super()._trial(arm, seed, training)
        if trial.spared is None:
            return trial
        parts = spared_rows(self.subject.labels["train"], training.folds)
        flips = self.rng.random(len(parts[seed % training.folds])) < 1 / 3
        return trial.model_copy(update={"spared": pack_mask(flips.tolist())})


def test_a_baseline_at_chance_does_not_vouch_for_rows_whose_labels_say_nothing():
    def effect(arm):
        return 0.4 * any(
            isinstance(change, RecipeChange)
            and (change.patch.get("optimizer") or {}).get("lr", 0) >= 0.01
            for change in arm.changes
        )

    subject = make_subject(decide_rows=300, may_borrow=True)
    world = Contradicted(subject, base=0.34, effect=effect)

    learned = world.audit()

    assert len(learned.screen.rows.labels) == 300
    report = conclude(subject, learned, HEADER)
    assert report.primary_cause is Cause.LEARNING_RATE_TOO_LOW


def perfect(*, delivered: float, base: float, rows: int = 600):
    """Audit a world in which a higher rate brings what is left."""
    scores = {"balanced_accuracy": delivered}
    world = World(
        make_subject(decide_rows=rows),
        base=base,
        effect=lambda arm: (1 - base) * bool(arm.changes),
        measures={"delivered": scores},
        spread=0.0,
    )
    learned = world.audit()
    report = conclude(world.subject, learned, HEADER)
    return world, {f.cause: f for f in report.findings}


def test_where_nothing_is_left_to_gain_nothing_is_tried_and_no_cause_is_there():
    world, findings = perfect(delivered=0.995, base=1.05)

    tried = {arm.name for t in world.trained for arm in t.arms}
    assert {name for name in tried if "initialization" not in name} == {"baseline"}
    for cause in (Cause.LEARNING_RATE_TOO_LOW, Cause.INSUFFICIENT_DATA):
        assert findings[cause].verdict == "not_found"
        assert findings[cause].confidence == 0.9
        assert "Nothing is left to gain" in findings[cause].summary


@pytest.mark.parametrize(
    ("delivered", "base", "rows"),
    [(0.995, 0.9, 600), (0.995, 1.05, 60), (0.6, 1.05, 600)],
    ids=["recipe falls short", "few rows", "delivered falls short"],
)
def test_otherwise_changes_are_tried(delivered, base, rows):
    world, _ = perfect(delivered=delivered, base=base, rows=rows)

    tried = [arm.name for t in world.trained for arm in t.arms]
    assert len(tried) > 10
    assert tried.count("baseline") >= 1


class Lucky(World):
    """A recipe that ends well from the first seeds of the screen alone."""

    def _trial(self, arm, seed, training):
        first = Trainer(self.subject).seeds("screen", self.lucky_seeds)
        is_mended = any(
            getattr(change, "name", "") == "output" for change in arm.changes
        )
        self.base = 0.93 if is_mended or seed in first else self.usual
        return super()._trial(arm, seed, training)


def lucky(usual: float, delivered: float, seeds: int = 1) -> tuple[Trainer, Results]:
    subject = make_subject(decide_rows=1000)
    world = Lucky(subject, base=0.9, effect=no_effect)
    world.usual, world.lucky_seeds = usual, seeds
    trainer = Trainer(subject)
    trainer.look_from(seeds)
    raw = Mend(
        Cause.UNSUITABLE_ACTIVATION,
        "raw output",
        "Return raw scores",
        (NetworkChange(name="output"),),
        evident=True,
    )
    slow = Mend(
        Cause.LEARNING_RATE_TOO_HIGH,
        "lr=0.0001",
        "Lower it",
        (RecipeChange(patch={"optimizer": {"lr": 1e-4}}),),
    )
    longer = RecipeChange(patch={"epochs": 80})
    long = Mend(
        Cause.INSUFFICIENT_TRAINING,
        "epochs=160",
        "Train longer",
        (RecipeChange(patch={"epochs": 160}),),
        control=(longer,),
        control_name=FULL_LENGTH,
    )
    mends = {mend.cause: [mend] for mend in (raw, slow, long)}
    screen, _ = world.through(screen_mends(trainer, mends, 0.0))
    again = world.through(look_again(trainer, screen, mends, delivered))
    return trainer, again


def test_a_single_training_far_from_the_delivered_weights_is_looked_at_again():
    trainer, screen = lucky(usual=0.6, delivered=0.65)

    assert len(screen.levels("baseline")) == 3
    assert screen.gain("raw output").value > 0.15
    assert abs(screen.gain("lr=0.0001").value) < 0.05
    assert len(trainer.screening_seeds) == 3


@pytest.mark.parametrize(("seeds", "looked_from"), [(1, 3), (3, 10)])
def test_what_delivered_weights_are_held_against_is_looked_at_again_too(
    seeds, looked_from
):
    """Of a subsample that is the recipe for as long as all rows would make it."""
    _, screen = lucky(usual=0.93, delivered=0.6, seeds=seeds)

    assert len(screen.levels(FULL_LENGTH)) == looked_from


def test_weights_far_below_some_trainings_may_be_what_others_yield():
    """An output that dies now and then: three seeds of the screen were lucky ones."""
    _, screen = lucky(usual=0.6, delivered=0.62, seeds=3)

    assert len(screen.levels("baseline")) == len(screen.levels("raw output")) == 10
    assert screen.gain("raw output").value > 0.15


def test_weights_far_below_all_trainings_are_left_at_that():
    _, screen = lucky(usual=0.93, delivered=0.62, seeds=3)

    assert len(screen.levels("baseline")) == 10
    assert len(screen.levels("raw output")) == 3


@pytest.mark.parametrize(
    ("usual", "delivered", "looks"), [(0.6, 0.91, 1), (0.93, 0.6, 3)]
)
def test_a_steady_recipe_is_screened_from_a_single_seed_on(usual, delivered, looks):
    trainer, screen = lucky(usual=usual, delivered=delivered)

    assert len(screen.levels("baseline")) == looks
    assert screen.gain("raw output").value < 0.05
    assert len(trainer.screening_seeds) == 1


@pytest.mark.parametrize("check", [LearningRateTooLow(), InsufficientData()])
@pytest.mark.parametrize(
    ("room", "verdict"),
    [(0.02, "not_found"), (0.2, "inconclusive"), (None, "inconclusive")],
)
def test_a_cause_that_was_not_reached_is_not_there_where_nothing_is_left_to_gain(
    check, room, verdict
):
    case = Case(measures={}, gaps={"budget": "not reached"}, room=room)

    assert check.judge(make_subject(), case).verdict == verdict


def test_half_of_a_learning_curve_does_not_count_as_all_of_it():
    trainer = Trainer(make_subject())
    curve = InsufficientData().mends(trainer.subject, {})
    half = Arm(name=curve[0].key, changes=curve[0].changes)
    both = trainer.cost([Arm(name="baseline"), half], trainer.screening_seeds)
    step = 1.05 * trainer.allowance("screen") / both * trainer.costs.each
    trainer.costs = Costs(one=0.0, each=0.9 * step)
    world = World(trainer.subject, base=0.6, effect=no_effect, step_seconds=step)

    screen, skipped = world.through(
        screen_mends(trainer, {Cause.INSUFFICIENT_DATA: curve}, 0.0)
    )

    assert all(mend.key in screen for mend in curve)
    assert skipped == {}
