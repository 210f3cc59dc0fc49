"""Equal samples are found by one small array of digests."""

import numpy as np

from worker.engine.probes import duplicates


def test_each_sample_points_to_the_first_equal_one_before_it():
    x = np.array([[1, 2], [3, 4], [1, 2], [0, 0], [1, 2], [-0.0, 0]], np.float32)

    assert duplicates.repeated(x).tolist() == [-1, -1, 0, -1, 0, 3]


def test_equal_numbers_are_equal_whatever_their_type():
    x = np.arange(12).reshape(3, 2, 2)

    whole, single = duplicates.digests(x.astype(np.uint8)), duplicates.digests(x)
    double = duplicates.digests(x.astype(np.float64))

    assert (double == duplicates.digests(x.astype(np.float32))).all()
    assert whole.shape == single.shape == (3, 2)


def test_pieces_make_no_difference(monkeypatch):
    x = np.random.default_rng(0).integers(0, 3, (50, 4)).astype(np.float32)
    whole = duplicates.repeated(x)

    monkeypatch.setattr(duplicates, "_VALUES", 12)

    assert (duplicates.repeated(x) == whole).all()
    assert (whole >= 0).any()


def test_no_samples_have_no_equals():
    assert duplicates.repeated(np.empty((0, 3), np.float32)).tolist() == []
