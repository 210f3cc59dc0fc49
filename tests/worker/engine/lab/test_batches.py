"""Order and sampling depend on names alone."""

import numpy as np

from worker.engine.lab.batches import Stream
from worker.engine.splits import stratified_order

Y = np.array([0] * 40 + [1] * 8)


def stream(*, kept=None, sampler="shuffle", batch=8, seed=3, **settings) -> Stream:
    if kept is None:
        kept = np.ones(len(Y), dtype=bool)
    base = np.arange(len(Y))
    return Stream(seed, base, kept, Y, batch, sampler, **settings)


def visited(one: Stream, epochs: int = 1) -> list[int]:
    places, real = one.take(0, one.steps_an_epoch * epochs)
    return places[real].tolist()


def test_an_epoch_visits_every_row_once():
    assert sorted(visited(stream())) == list(range(len(Y)))


def test_epochs_differ_and_seeds_differ():
    twice = visited(stream(), epochs=2)

    assert twice[: len(Y)] != twice[len(Y) :]
    assert visited(stream(seed=4)) != visited(stream())


def test_fewer_rows_are_visited_in_the_same_order():
    kept = np.arange(len(Y)) % 3 != 0

    some = visited(stream(kept=kept))

    assert some == [row for row in visited(stream()) if kept[row]]


def test_batches_do_not_depend_on_how_many_are_taken_at_once():
    one = stream(batch=7)

    together = one.take(2, 15)
    apart = [one.take(step, 1) for step in range(2, 17)]

    assert np.array_equal(together[0], np.concatenate([a for a, _ in apart]))
    assert np.array_equal(together[1], np.concatenate([b for _, b in apart]))


def test_the_balanced_sampler_shows_classes_equally_often():
    drawn = visited(stream(sampler="balanced"), epochs=40)

    assert abs(np.mean(Y[drawn]) - 0.5) < 0.05


def test_a_last_batch_of_one_row_is_left_out_where_it_would_do_harm():
    one = stream(batch=47, drop_single=True)

    assert one.steps_an_epoch == 1
    assert stream(batch=47).steps_an_epoch == 2


def test_every_beginning_of_a_stratified_order_keeps_the_shares():
    order = stratified_order(Y, np.arange(len(Y)), seed=0)

    for count in (12, 24, 36):
        assert abs(np.sum(Y[order[:count]]) - count / 6) <= 1


def test_rows_left_out_in_turn_change_no_batch_size():
    kept = np.arange(len(Y)) % 5 != 0  # 38 of 48
    all_of_them, some = stream(batch=9), stream(kept=kept, batch=9, whole=48)

    _, real = all_of_them.take(0, 18)
    places, real_of_some = some.take(0, 18)

    assert np.array_equal(real.sum(1), real_of_some.sum(1))
    assert kept[places[real_of_some]].all()


def test_rows_run_on_from_pass_to_pass_where_some_are_left_out():
    kept = np.arange(len(Y)) % 5 != 0
    one = stream(kept=kept, batch=9, whole=48)

    seen = visited(one, epochs=19)  # 24 passes over 38 rows

    assert set(np.bincount(seen, minlength=48)[kept]) == {24}
    assert sorted(seen[:38]) == np.flatnonzero(kept).tolist()


def test_the_order_of_the_file_begins_anew_with_each_epoch_that_rows_are_left_out_of():
    """As many updates, the last of them on the last rows, whatever the seed."""
    kept = np.arange(len(Y)) % 5 != 0
    rows = np.flatnonzero(kept).tolist()
    one = stream(kept=kept, sampler="sequential", whole=len(Y))

    twice = visited(one, epochs=2)

    assert len(twice) == 2 * len(Y)
    for epoch in (twice[: len(Y)], twice[len(Y) :]):
        assert epoch == sorted(epoch)
        assert set(epoch) == set(rows)
        assert epoch[-1] == rows[-1]
