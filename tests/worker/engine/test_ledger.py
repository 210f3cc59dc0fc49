"""Rounds that are asked for at once."""

from collections.abc import Generator

from worker.engine.lab.experiment import Measurement, MeasurementOutcome
from worker.engine.ledger import Answers, Ask, side_by_side


def asking(*names: str) -> Generator[Ask, Answers, list[object]]:
    """Ask for one measurement after the other; return what came out."""
    seen = []
    for name in names:
        wanted = Measurement(question="?", name=name)
        answers = yield Ask("inspect", f"measuring {name}", (wanted,))
        outcome = answers[wanted.digest()]
        assert isinstance(outcome, MeasurementOutcome)
        seen.append(outcome.values["name"])
    return seen


def test_two_rounds_are_asked_for_at_once_as_long_as_both_ask():
    rounds = side_by_side(asking("a", "b", "c"), asking("d", "b"))
    asked, answers = [], None
    try:
        while True:
            ask = rounds.send(answers)
            asked.append([e.name for e in ask.experiments])
            answers = {
                e.digest(): MeasurementOutcome(values={"name": e.name})
                for e in ask.experiments
            }
    except StopIteration as end:
        found = end.value

    assert asked == [["a", "d"], ["b"], ["c"]]  # what both want is asked for once
    assert found == (["a", "b", "c"], ["d", "b"])


def test_rounds_that_ask_nothing_end_at_once():
    assert [*side_by_side(asking(), asking())] == []
