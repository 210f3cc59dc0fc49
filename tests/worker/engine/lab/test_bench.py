"""The bench trains paired arms and says what came out."""

from dataclasses import replace

import lab_material as lab
import numpy as np
import pytest
import torch
from torch import nn

from worker.engine.lab import bench as bench_module
from worker.engine.lab import gradients as gradients_module
from worker.engine.lab import views
from worker.engine.lab.bench import Bench
from worker.engine.lab.experiment import (
    UNTOUCHED,
    Arm,
    DataChange,
    NetworkChange,
    RecipeChange,
    Training,
    pack_mask,
    unpack_mask,
)
from worker.engine.lab.inputs import repair_step
from worker.engine.lab.stack import Stack, _finite_rows
from worker.engine.network.editing import SurgeryImpossible
from worker.engine.splits import spared_rows

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, lab.CLASSES))


def dropping() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, lab.CLASSES)
    )


def training(*arms: Arm, seeds=(1, 2), **settings) -> Training:
    return Training(round="test", question="", arms=arms, seeds=seeds, **settings)


def recipe_arm(name: str, **patch) -> Arm:
    return Arm(name=name, changes=(RecipeChange(patch=patch),))


BASE = Arm(name="base")


def outcome_of(material, *arms, **settings):
    return Bench(material).run(training(*arms, **settings))


def test_the_same_training_twice_gives_the_same_outcome():
    material = lab.make_material(dropping(), (5,))
    asked = training(BASE, recipe_arm("fast", optimizer={"lr": 0.1}))

    first, second = Bench(material).run(asked), Bench(material).run(asked)

    leave_out = {"seconds"}
    assert first.model_dump(exclude=leave_out) == second.model_dump(exclude=leave_out)


def test_a_trial_does_not_depend_on_who_shares_its_stack():
    material = lab.make_material(dropping(), (5,))

    alone = outcome_of(material, BASE, seeds=(2,)).arms[0].trials[0]
    among = outcome_of(
        material, recipe_arm("fast", optimizer={"lr": 0.1}), BASE, seeds=(1, 2, 3)
    )
    paired = among.arms[1].trials[1]

    assert paired.seed == alone.seed
    assert paired.train_loss == pytest.approx(alone.train_loss, rel=1e-4)


def test_arms_that_differ_only_in_epochs_share_a_trajectory_and_score_as_if_alone():
    material = lab.make_material(dense(), (5,))
    long = recipe_arm("long", epochs=4)

    together = outcome_of(material, BASE, long)
    apart = [outcome_of(material, BASE), outcome_of(material, long)]

    steps = -(-len(material.train) // 8)
    assert together.member_steps == 2 * 4 * steps
    for arm, alone in zip(together.arms, apart, strict=True):
        for ours, theirs in zip(arm.trials, alone.arms[0].trials, strict=True):
            assert ours.correct == theirs.correct
            assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
            assert ours.curve.epoch == theirs.curve.epoch


def test_a_longer_training_ends_where_nothing_is_left_to_learn():
    recipe = lab.make_recipe(epochs=100).patched({"optimizer": {"lr": 0.02}})
    material = lab.make_material(dense(), (5,), recipe=recipe)
    steps = -(-len(material.train) // 8)

    outcome = outcome_of(material, BASE, recipe_arm("long", epochs=1000))

    given, longer = (arm.trials for arm in outcome.arms)
    assert all(trial.signs["settled_after"] is None for trial in given)
    for trial in longer:
        assert 100 < trial.signs["settled_after"] < 1000
        assert trial.train_loss <= 0.003 * np.log(lab.CLASSES)
    ended = sum(trial.signs["settled_after"] for trial in longer)
    assert outcome.member_steps == round(ended * steps)


def test_the_recipe_as_given_is_followed_to_its_end():
    recipe = lab.make_recipe(epochs=1000).patched({"optimizer": {"lr": 0.02}})
    material = lab.make_material(dense(), (5,), recipe=recipe)

    outcome = outcome_of(material, BASE, seeds=(1,))

    assert outcome.arms[0].trials[0].train_loss < 1e-4
    assert outcome.member_steps == 1000 * -(-len(material.train) // 8)


def test_a_loss_that_began_high_is_not_taken_for_one_that_is_gone():
    """Raw inputs cost hundreds at first; three thousandths of that are not nothing."""
    recipe = lab.make_recipe(epochs=2).patched({"optimizer": {"lr": 1e-3}})
    material = lab.make_material(dense(), (5,), rows=200, recipe=recipe)
    large = replace(material.train, x=material.train.x * 1000)
    material = replace(material, train=large, decide=large)

    outcome = outcome_of(material, BASE, recipe_arm("long", epochs=40), seeds=(1,))

    [trial] = outcome.arms[1].trials
    assert trial.signs["first_loss"] > 50
    settled = trial.signs["settled_after"]
    assert settled is None or trial.train_loss <= 0.003 * np.log(lab.CLASSES)


def test_a_schedule_that_depends_on_the_epochs_is_not_shared():
    cosine = {"name": "cosine"}
    material = lab.make_material(
        dense(), (5,), recipe=lab.make_recipe().patched({"schedule": cosine})
    )

    outcome = outcome_of(material, BASE, recipe_arm("long", epochs=4), seeds=(1,))

    assert outcome.member_steps == (2 + 4) * -(-len(material.train) // 8)


def test_a_member_that_diverges_is_flagged_and_leaves_the_others_alone():
    material = lab.make_material(dense(), (5,))
    hot = recipe_arm("hot", optimizer={"lr": 1e36})

    outcome = outcome_of(material, BASE, hot)
    alone = outcome_of(material, BASE)

    assert all(trial.diverged for trial in outcome.arms[1].trials)
    assert not any(trial.diverged for trial in outcome.arms[0].trials)
    assert [one.correct for one in outcome.arms[0].trials] == [
        one.correct for one in alone.arms[0].trials
    ]


def test_an_arm_that_cannot_be_built_says_why_and_leaves_the_others_alone():
    material = lab.make_material(dense(), (5,))
    impossible = Arm(
        name="conv", changes=(NetworkChange(name="reference", to="no such family"),)
    )
    nonsense = recipe_arm("nonsense", epochs="many")

    outcome = outcome_of(material, impossible, BASE, nonsense)

    assert outcome.arms[0].failure
    assert outcome.arms[2].failure
    assert len(outcome.arms[1].trials) == 2


def test_what_is_scored_is_what_the_packed_rows_say():
    material = lab.make_material(dense(), (5,))

    trial = outcome_of(material, BASE).arms[0].trials[0]

    hits = unpack_mask(trial.correct, len(material.decide))
    assert trial.accuracy == pytest.approx(np.mean(hits))
    y = material.decide.y
    recalls = [np.mean(np.array(hits)[y == label]) for label in np.unique(y)]
    assert trial.balanced_accuracy == pytest.approx(np.mean(recalls))


def test_training_learns_and_random_labels_do_not():
    recipe = lab.make_recipe(epochs=20).patched({"optimizer": {"lr": 0.02}})
    material = lab.make_material(dense(), (5,), rows=200, recipe=recipe)
    noise = Arm(name="noise", changes=(DataChange(name="permute_labels"),))

    outcome = outcome_of(material, BASE, noise)

    assert min(trial.accuracy for trial in outcome.arms[0].trials) > 0.8
    assert max(trial.accuracy for trial in outcome.arms[1].trials) < 0.7


def test_the_kept_model_scores_what_the_outcome_says(tmp_path):
    recipe = lab.make_recipe(epochs=10, normalization="standardize")
    material = lab.make_material(dense(), (5,), recipe=recipe, scratch=tmp_path)

    outcome = outcome_of(material, BASE, seeds=(1, 2, 3), keep="base")

    best = max(outcome.arms[0].trials, key=lambda one: one.balanced_accuracy)
    assert outcome.kept_seed == best.seed
    module = torch.jit.load(tmp_path / outcome.file)
    predicted = module(torch.from_numpy(material.decide.x)).argmax(1).numpy()
    assert (predicted == material.decide.y).tolist() == unpack_mask(
        best.correct, len(material.decide)
    )


def test_an_arm_whose_surgery_falls_over_is_left_out_alone(monkeypatch):
    def fall(*_, **__):
        raise IndexError("list index out of range")

    material = lab.make_material(dense(), (5,))
    monkeypatch.setattr(material.network, "changed", fall)
    wider = Arm(name="wider", changes=(NetworkChange(name="width", factor=2.0),))

    outcome = outcome_of(material, BASE, wider)

    assert outcome.arms[0].failure is None
    assert "list index out of range" in outcome.arms[1].failure
    assert outcome.arms[1].unforeseen


class Lookup(nn.Module):
    """Fails on what is no row of its table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 6)
        self.out = nn.Linear(6, lab.CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.table(x.long().clamp(max=39)).mean(1))


def test_an_arm_that_falls_over_in_a_stack_takes_no_other_with_it():
    torch.manual_seed(0)
    material = lab.make_material(Lookup(), (5,), kind="table")
    whole = np.abs(10 * material.train.x).round()
    material = replace(material, train=replace(material.train, x=whole))
    negative = recipe_arm("standardize", normalization="standardize")
    slow = recipe_arm("slow", optimizer={"lr": 1e-5})

    decide = replace(material.decide, x=np.abs(10 * material.decide.x).round())
    outcome = outcome_of(replace(material, decide=decide), BASE, negative, slow)

    base, fallen, other = outcome.arms
    assert base.failure is None
    assert other.failure is None
    assert "fails in training" in fallen.failure
    alone = outcome_of(replace(material, decide=decide), BASE, slow)
    for arm, same in zip((base, other), alone.arms, strict=True):
        for trial, one in zip(arm.trials, same.trials, strict=True):
            assert trial.correct == one.correct
            assert trial.train_loss == pytest.approx(one.train_loss, rel=1e-5)


def test_a_kept_model_that_cannot_be_written_out_costs_nothing_else(monkeypatch):
    def refuse(*_):
        raise SurgeryImpossible("no TorchScript form")

    monkeypatch.setattr(bench_module, "packaged", refuse)
    material = lab.make_material(dense(), (5,))

    outcome = outcome_of(material, BASE, keep="base")

    assert (outcome.file, outcome.kept_seed) == (None, None)
    assert outcome.arms[0].failure is None
    assert "no TorchScript form" in outcome.notes[-1]


@pytest.mark.parametrize(("rate", "left_so"), [(1e-7, True), (0.3, False)])
def test_it_is_told_which_layers_the_recipe_leaves_as_they_were_drawn(rate, left_so):
    network = nn.Sequential(
        nn.Linear(5, 60), nn.ReLU(), nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 3)
    )
    recipe = lab.make_recipe(epochs=20).patched({"optimizer": {"lr": rate}})
    material = lab.make_material(network, (5,), recipe=recipe)
    longer = Arm(name="longer", changes=(RecipeChange(patch={"epochs": 30}),))

    outcome = outcome_of(material, BASE, longer, seeds=(1, 2))

    told = [f"{UNTOUCHED}2.weight" in t.signs for a in outcome.arms for t in a.trials]
    # Of the recipe only, from the first seed.
    assert told == [left_so, False, False, False]


def test_rows_are_told_by_members_that_left_them_out():
    material = lab.make_material(dropping(), (5,), recipe=lab.make_recipe(epochs=10))
    parts = spared_rows(material.train.y, 3)

    said = Bench(material).out_of_fold(training(BASE, seeds=(1, 2), folds=3))

    known = np.concatenate([parts[1], parts[2]])
    assert np.isfinite(said).all(1).nonzero()[0].tolist() == sorted(known)
    np.testing.assert_allclose(said[known].sum(1), 1)
    outcome = outcome_of(material, BASE, seeds=(1, 2), folds=3)
    for trial, part in zip(outcome.arms[0].trials, parts[1:], strict=True):
        hits = said[part].argmax(1) == material.train.y[part]
        assert hits.tolist() == unpack_mask(trial.spared, len(part))


def test_what_several_members_say_of_a_row_is_averaged():
    material = lab.make_material(dropping(), (5,))
    [part, *_] = spared_rows(material.train.y, 3)

    first, second, both = (
        Bench(material).out_of_fold(training(BASE, seeds=seeds, folds=3))[part]
        for seeds in ((0,), (3,), (0, 3))
    )

    assert not np.allclose(first, second)
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-5)


def test_of_an_arm_that_cannot_be_trained_nothing_is_told():
    material = lab.make_material(dense(), (5,))
    impossible = Arm(
        name="smoothed", changes=(NetworkChange(name="activation", to="nothing"),)
    )

    assert Bench(material).out_of_fold(training(impossible, folds=3)) is None


def test_a_training_stops_at_its_deadline_and_says_so():
    material = lab.make_material(dense(), (5,), recipe=lab.make_recipe(epochs=100_000))

    outcome = outcome_of(material, BASE, max_seconds=0.3)

    assert outcome.seconds < 20
    assert "stopped by the budget" in outcome.notes[0]
    assert len(outcome.arms[0].trials) == 2


@pytest.fixture
def chunks(monkeypatch) -> list[int]:
    """The steps that stacks make at once."""
    made: list[int] = []
    advance = Stack.advance

    def counted(stack, start, steps):
        losses = advance(stack, start, steps)
        made.append(steps)
        return losses

    monkeypatch.setattr(Stack, "advance", counted)
    return made


@pytest.mark.parametrize(("seconds", "most"), [(0.0001, 12), (0.5, 2), (7.0, 1)])
def test_slow_steps_are_stopped_soon_after_their_deadline(chunks, seconds, most):
    """Only as many are made at once as a second holds."""
    material = lab.make_material(dense(), (5,), recipe=lab.make_recipe(epochs=4))
    bench = Bench(replace(material, clock=lambda: sum(chunks) * seconds))

    bench.run(training(BASE, seeds=(1,)))

    assert chunks[0] <= 4
    assert max(chunks[1:]) <= most
    assert most == 1 or max(chunks[1:]) > 1


def test_a_training_leaves_time_to_score_what_it_trained(chunks):
    """A step a second: of a minute, scoring takes what eleven steps do."""
    recipe = lab.make_recipe(epochs=100, batch_size=8)
    material = lab.make_material(dense(), (5,), recipe=recipe)
    bench = Bench(replace(material, clock=lambda: float(sum(chunks))))
    scored = len(material.decide) + len(material.train)

    bench.run(training(BASE, seeds=(1,), max_seconds=60.0))

    assert sum(chunks) <= 60 - scored / 8 + 1
    assert sum(chunks) > 4


def test_a_deadline_is_shared_by_stacks_so_that_each_learns_something():
    recipe = lab.make_recipe(epochs=100_000)
    material = lab.make_material(dense(), (5,), recipe=recipe)
    other = recipe_arm("other", optimizer={"name": "adamw"})

    outcome = outcome_of(material, BASE, other, seeds=(1,), max_seconds=5.0)

    for arm in outcome.arms:
        assert arm.trials[0].train_loss < arm.trials[0].signs["first_loss"]


def test_bytes_stay_bytes_until_a_batch_needs_them():
    material = lab.make_material(dense(), (5,))
    bench = Bench(material)
    bench.run(training(BASE, seeds=(1,)))

    held = bench._split("train").x

    assert held.data_ptr() == material.train.x.ctypes.data


def test_dropped_rows_and_new_labels_change_what_is_trained_on():
    material = lab.make_material(dense(), (5,))
    flags = [row < 9 for row in range(len(material.train))]
    drop = Arm(name="drop", changes=(DataChange(name="drop", mask=pack_mask(flags)),))
    turn = Arm(
        name="turn",
        changes=(DataChange(name="relabel", mask=pack_mask(flags), labels=(0,) * 9),),
    )
    bench = Bench(material)
    run = bench._prepared(training(drop, turn, seeds=(1,)))

    dropped, turned = run.members

    places, real = dropped.stream.take(0, dropped.stream.steps_an_epoch)
    assert set(places[real]) == set(range(9, len(material.train)))
    assert (turned.view.labels[:9] == 0).all()
    assert (turned.view.labels[9:] == material.train.y[9:]).all()


def test_every_data_change_trains():
    material = lab.make_material(
        nn.Sequential(nn.Flatten(), nn.Linear(72, lab.CLASSES)), (2, 6, 6)
    )
    arms = [
        Arm(name="subset", changes=(DataChange(name="subset", share=0.5),)),
        Arm(name="repair", changes=(DataChange(name="repair_inputs", limit=3.0),)),
        Arm(name="guess", changes=(DataChange(name="estimate_inputs", limit=3.0),)),
        Arm(name="order", changes=(DataChange(name="permute_features"),)),
        Arm(name="shift", changes=(DataChange(name="augment"),)),
        Arm(name="unit", changes=(DataChange(name="transform", transform="invert"),)),
    ]

    outcome = outcome_of(material, BASE, *arms, seeds=(1,))

    assert [arm.failure for arm in outcome.arms] == [None] * 7
    assert len({arm.trials[0].train_loss for arm in outcome.arms}) == 7


def test_what_an_arm_is_shown_changes_its_scores_and_not_its_training():
    material = lab.make_material(dense(), (5,))
    shown = DataChange(name="shown", transform="reverse_features")

    outcome = outcome_of(
        material, BASE, Arm(name="shown", changes=(shown,)), seeds=(1,)
    )

    [[plain], [other]] = [arm.trials for arm in outcome.arms]
    assert other.curve.train_loss == plain.curve.train_loss  # of batches
    assert other.train_accuracy != plain.train_accuracy
    assert other.correct != plain.correct


def test_what_is_fitted_to_the_inputs_is_fitted_once_for_all_trainings(monkeypatch):
    fitted = []

    def counted(*given, **named):
        fitted.append(named)
        return repair_step(*given, **named)

    monkeypatch.setattr(views, "repair_step", counted)
    bench = Bench(lab.make_material(dense(), (5,)))
    guess = DataChange(name="estimate_inputs", limit=3.0)
    subset = DataChange(name="subset", share=0.5)

    bench.run(training(Arm(name="guess", changes=(guess,)), seeds=(1, 2)))
    bench.run(training(Arm(name="both", changes=(subset, guess)), seeds=(3, 4)))

    assert len(fitted) == 1


def test_the_prediction_of_a_trainings_time_is_of_the_right_size():
    material = lab.make_material(dense(), (5,), recipe=lab.make_recipe(epochs=40))
    bench = Bench(material)

    predicted = bench.predict_seconds(training(BASE))

    assert 0 < predicted < 60
    assert bench.measure_step(2) > 0


def test_where_one_member_takes_long_a_few_tell_what_company_saves(monkeypatch):
    monkeypatch.setattr(bench_module, "_SLOW_STEP", 0.0)
    bench = Bench(lab.make_material(dense(), (5,)))
    few = bench.measure_step(3)
    made = []
    monkeypatch.setattr(bench, "_stack", lambda *given: made.append(given))

    assert bench.measure_step(15) == 5 * few
    assert not made


def test_where_one_member_takes_very_long_company_is_counted_not_measured(monkeypatch):
    monkeypatch.setattr(bench_module, "_SLOWEST_STEP", 0.0)
    bench = Bench(lab.make_material(dense(), (5,)))
    alone = bench.measure_step(1)
    made = []
    monkeypatch.setattr(bench, "_stack", lambda *given: made.append(given))

    assert bench.measure_step(16) == 16 * alone
    assert not made


def a_stack():
    """A stack of two members of a small dense network, whose steps may be traced."""
    material = lab.make_material(dense(), (5,), recipe=lab.make_recipe(epochs=40))
    bench, asked = Bench(material), training(BASE)
    run = bench._prepared(asked)
    return bench._stack(run.members, asked, run)


@pytest.mark.parametrize(("most", "traced"), [(5_000, 1), (5, 0)])
def test_a_step_of_very_many_operators_is_not_traced(monkeypatch, most, traced):
    monkeypatch.setattr(gradients_module, "_MOST_TRACED", most)
    stack = a_stack()
    assert stack.gradients.capture

    stack.advance(0, 2)

    assert len(stack.gradients.graphs) == traced


def test_a_long_recurrent_network_is_trained_member_by_member(monkeypatch):
    monkeypatch.setattr(gradients_module, "_MOST_WRITTEN_OUT", 5)
    looped = []
    monkeypatch.setattr(
        gradients_module.Gradients,
        "_looped",
        lambda _self, rows, *_: looped.append(len(rows)) or (rows, rows[:, 0], {}),
    )
    stack = a_stack()
    stack.advance(0, 1)
    assert not looped

    stack = a_stack()
    monkeypatch.setattr(type(stack.gradients.network), "cells", frozenset({"gru"}))
    stack.advance(0, 1)
    assert looped == [2]


def test_the_clock_is_looked_at_after_the_first_step():
    stack = a_stack()

    stopped = stack.run(lambda _ahead: True, lambda _steps: None)

    assert stopped
    assert stack.steps_done == 2  # one of each member
    assert len(stack.trials) == 2


def test_a_slow_step_that_is_not_traced_is_timed_once():
    stack = a_stack()
    stack.gradients.capture = False
    seconds = iter([0.0, 7.0, 7.0])
    stack._clock = lambda: next(seconds)

    assert stack.time_step() == 7.0


def test_a_step_that_others_disturbed_does_not_tell_what_steps_take():
    stack = a_stack()
    stack.gradients.capture = False
    took = [0.01, 0.2, 0.01]  # of three steps, after the first
    seconds = iter([0.0, 0.0, *(t for one in took for t in (0.0, one))])
    stack._clock = lambda: next(seconds)

    assert stack.time_step() == 0.01


def test_measuring_a_step_of_a_stack_leaves_its_weights_alone():
    bench = Bench(lab.make_material(dense(), (5,)))
    training = lab.make_training()
    run = bench._prepared(training)
    stack = bench._stack(run.members, training, run)
    before = stack.rows.clone()

    stack.time_step()
    assert torch.equal(stack.rows, before)
    stack.time_step(spend=True)
    assert not torch.equal(stack.rows, before)


def test_a_sum_that_overflows_is_not_taken_for_numbers_that_are_not_finite():
    rows = torch.full((4, 3), 3e38)
    rows[1, 2], rows[2, 0] = torch.nan, torch.inf
    rows[3, 1:] = torch.tensor([torch.inf, -torch.inf])

    assert _finite_rows(rows).tolist() == [True, False, False, False]


def test_each_seed_leaves_out_another_part_and_is_scored_on_it():
    material = lab.make_material(dense(), (5,), rows=60)
    parts = spared_rows(material.train.y, 5)
    patch = {"optimizer": {"lr": 0.05}, "epochs": 20}

    outcome = outcome_of(material, recipe_arm("fast", **patch), seeds=(5, 6), folds=5)

    trials = outcome.arms[0].trials
    for trial, part in zip(trials, parts[:2], strict=True):
        hits = unpack_mask(trial.spared, len(part))
        assert sum(hits) >= 0.6 * len(part)  # the classes are far apart


def test_rows_left_out_in_turn_are_not_trained_on():
    material = lab.make_material(dense(), (5,), rows=60)
    part = spared_rows(material.train.y, 5)[3]
    spoiled = material.train.x.copy()
    spoiled[part] = np.nan
    changed = replace(material, train=replace(material.train, x=spoiled))

    sound = outcome_of(material, BASE, seeds=(3,), folds=5).arms[0].trials[0]
    trial = outcome_of(changed, BASE, seeds=(3,), folds=5).arms[0].trials[0]

    assert not trial.diverged
    assert trial.correct == sound.correct


def test_leaving_rows_out_keeps_the_number_of_updates():
    material = lab.make_material(dense(), (5,), rows=60)
    whole = recipe_arm("full batch", batch_size=64, epochs=3)

    with_all = outcome_of(material, BASE, whole, seeds=(1,))
    without = outcome_of(material, BASE, whole, seeds=(1,), folds=5)

    assert without.member_steps == with_all.member_steps
