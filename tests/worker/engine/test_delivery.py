"""What a network that takes long is looked at with, and how often it is asked."""

from copy import copy
from dataclasses import replace

import pytest

from tests.worker.engine.opened import dataset, network, open_session
from worker.engine import delivery
from worker.engine.check import Case
from worker.engine.checks.preprocessing_mismatch import PreprocessingMismatch
from worker.engine.probes.material import few
from worker.engine.trying import try_out


@pytest.fixture
def opened(tmp_path, monkeypatch):
    def open_with(seconds_a_row: float):
        monkeypatch.setattr(delivery, "_seconds_a_row", lambda _: seconds_a_row)
        monkeypatch.setattr(delivery, "LEAST_HELD_OUT", 50)
        return open_session(tmp_path, network(), data=dataset(rows=400))

    return open_with


def test_a_slow_network_is_looked_at_with_fewer_rows(opened):
    session = opened(0.03)  # of 100 s, a look may take 3

    assert session.material.look_rows == 100
    assert few(session.material, 1) == 100
    assert few(session.material, 100) == 32
    assert len(session.material.decide) == 100
    assert session.subject.data.rows["decide"] == 100
    assert any("100 held-out rows" in note for note in session.subject.notes)


def test_a_fast_network_is_looked_at_with_all(opened):
    session = opened(1e-6)

    held_out = len(session.material.decide) + len(session.material.final)
    assert held_out == 320
    assert not any("held-out rows" in note for note in session.subject.notes)


def test_steps_that_take_long_are_estimated_from_what_a_row_takes(opened, monkeypatch):
    cost = {"kind": "measurement", "question": "?", "name": "cost"}
    timed = []
    slow, fast = opened(0.2), opened(1e-6)
    for session in (slow, fast):
        monkeypatch.setattr(session.bench, "measure_step", timed.append)

    seen = slow.run(cost)["values"]["step_seconds"]

    assert seen == {"1": pytest.approx(0.2 * 3 * 32)}  # forward and backward of a batch
    assert timed == []
    fast.run(cost)
    assert timed == [1, 16]


def test_a_batch_that_takes_long_is_timed_with_few_rows(tmp_path):
    seconds, asked = iter([0.0, 3.2, 0.0, 0.1, 1.0, 1.7]), []
    session = open_session(tmp_path, network(), data=dataset(rows=400))
    material = replace(session.material, clock=lambda: next(seconds))
    forward = type(material.network).forward

    class Counted(type(material.network)):
        def forward(self, parameters, buffers, x, **how):
            asked.append(len(x))
            return forward(self, parameters, buffers, x, **how)

    counted = copy(material.network)
    counted.__class__ = Counted
    material = replace(material, network=counted)

    assert delivery._seconds_a_row(material) == pytest.approx(0.2)
    assert max(asked) == 16
    assert delivery._seconds_a_row(material) == pytest.approx(0.7 / 64)
    assert max(asked) == 64


def test_only_the_likeliest_forms_are_tried_on_a_slow_network(opened):
    measured = {"kind": "measurement", "question": "?", "name": "preprocessing"}
    slow, fast = opened(0.1), opened(1e-6)

    few_forms = slow.run(measured)["values"]
    all_forms = fast.run(measured)["values"]

    assert slow.material.look_rows == 30  # 150 rows in 32 at a time
    assert list(few_forms["tried"]) == list(all_forms["tried"])[:4]
    alone = [n for n in all_forms["tried"] if "+" not in n and "affine" not in n]
    assert few_forms["untried"] == len(alone) - 4 > 0
    assert all_forms["untried"] == 0
    finding = PreprocessingMismatch().judge(
        slow.subject, Case(measures={"preprocessing": few_forms})
    )
    assert finding.verdict == "inconclusive"
    assert "not tried" in finding.summary


@pytest.mark.parametrize(("seconds", "rows"), [(0.01, 64), (0.2, 16)])
def test_a_network_is_tried_out_with_fewer_rows_where_two_take_long(
    tmp_path, seconds, rows
):
    session = open_session(tmp_path, network(), data=dataset(rows=400))
    ticks = iter([0.0, seconds])

    raw = try_out(
        session.material.network,
        session.material.decide,
        session.device,
        clock=lambda: next(ticks),
    )

    assert len(raw) == rows


def test_the_archive_itself_is_tried_out_with_fewer_rows_where_two_take_long(tmp_path):
    session = open_session(tmp_path, network(), data=dataset(rows=400))
    ticks, asked = iter([0.0, 0.2]), []
    counted = copy(session.material.network)

    class Counted(type(counted)):
        def as_delivered(self, x):
            asked.append(len(x))
            return super().as_delivered(x)

    counted.__class__ = Counted
    slow = replace(session.material, network=counted, clock=lambda: next(ticks))

    assert delivery.as_it_runs(slow) is slow
    assert asked == [2, 16]


def test_the_delivered_answers_are_worked_out_once(tmp_path, monkeypatch):
    session = open_session(tmp_path, network())
    asked = []
    forward = type(session.material.network).forward

    def counted(self, parameters, buffers, x, **how):
        asked.append(len(x))
        return forward(self, parameters, buffers, x, **how)

    def run(name):
        session.run({"kind": "measurement", "question": "?", "name": name})

    run("delivered")
    monkeypatch.setattr(type(session.material.network), "forward", counted)
    for name in ("label_order", "segments", "signal"):
        run(name)

    assert asked == []
