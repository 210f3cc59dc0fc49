"""What a network that takes long is looked at with, and how often it is asked."""

import pytest

from tests.worker.engine.opened import dataset, network, open_session
from worker.engine import delivery
from worker.engine.probes.material import few


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
    assert few(session.material, 100) == 48
    assert len(session.material.decide) == 100
    assert session.subject.data.rows["decide"] == 100
    assert any("100 held-out rows" in note for note in session.subject.notes)


def test_a_fast_network_is_looked_at_with_all(opened):
    session = opened(1e-6)

    held_out = len(session.material.decide) + len(session.material.final)
    assert held_out == 320
    assert not any("held-out rows" in note for note in session.subject.notes)


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
