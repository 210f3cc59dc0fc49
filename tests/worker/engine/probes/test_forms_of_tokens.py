from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.worker.engine.lab import lab_material as lab
from worker.engine.data import Dataset, Split
from worker.engine.lab.inputs import written_out
from worker.engine.probes import preprocessing
from worker.engine.probes.transforms import OF_TOKENS, applicable, figures, transform

CLASSES, WORDS, LONG = 3, 30, 12
ROWS = torch.tensor([[5, 6, 7, 0, 0], [0, 9, 3, 4, 2]])


def texts(rows: int, seed: int) -> Split:
    """Words 1 to 30, some of them telling of their class; padded at the end by 0."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, rows)
    words = rng.integers(1, WORDS + 1, (rows, LONG))
    telling = rng.random((rows, LONG)) < 0.4
    words = np.where(telling, 1 + 7 * y[:, None] + words % 2, words)
    length = rng.integers(2, LONG + 1, rows)
    words[np.arange(LONG) >= length[:, None]] = 0
    return Split(words, y, np.arange(rows), "train")


class Bag(nn.Module):
    """Knows words by their ids, and forgets what stands far behind."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS + 2, CLASSES, padding_idx=0)
        with torch.no_grad():
            self.table.weight.zero_()
            for k in range(CLASSES):
                self.table.weight[[1 + 7 * k, 2 + 7 * k], k] = 5.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x[:, :6]).sum(1)


def best_form(moved) -> dict:
    """What the probe finds where a network is given texts in another form."""
    parts = {
        name: Split(moved(part.x), part.y, part.rows, "train")
        for name, part in (
            ("train", texts(300, 0)),
            ("decide", texts(400, 1)),
            ("final", texts(100, 2)),
        )
    }
    material = lab.make_material(Bag(), (LONG,), kind="tokens")
    names = material.dataset.class_names
    dataset = Dataset({"train": parts["train"]}, names, (), "tokens", None)
    changed = {**parts, "dataset": dataset}
    return preprocessing.measure(replace(material, **changed), {})


MOVES = {
    "next_word": lambda x: np.where(x > 1, x - 1, x),
    "previous_id": lambda x: x + 1,
    "padding_last": lambda x: np.array(
        [np.roll(row, int((row == 0).sum())) for row in x]
    ),
}


@pytest.mark.parametrize("form", MOVES)
def test_the_form_in_which_texts_were_learned_is_found(form):
    found = best_form(MOVES[form])

    assert found["best"].split("+")[0] == form
    assert found["gain"]["low"] > 0.05


def test_texts_in_their_own_form_need_no_other():
    found = best_form(lambda x: x)

    assert found["best"] == "identity"
    assert set(found["tried"]) >= set(OF_TOKENS)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("next_id", [[6, 7, 8, 1, 1], [1, 9, 4, 5, 3]]),
        ("previous_id", [[4, 5, 6, 0, 0], [0, 8, 2, 3, 1]]),
        ("next_word", [[6, 7, 8, 0, 0], [0, 9, 4, 5, 3]]),
        ("previous_word", [[4, 5, 6, 0, 0], [0, 8, 2, 3, 1]]),
        ("padding_first", [[0, 0, 5, 6, 7], [0, 9, 3, 4, 2]]),
        ("padding_last", [[5, 6, 7, 0, 0], [9, 3, 4, 2, 0]]),
        ("reverse_tokens", [[0, 0, 7, 6, 5], [2, 4, 3, 9, 0]]),
    ],
)
def test_what_a_form_makes_of_ids(form, expected):
    names = tuple("abc")
    train = Split(ROWS.numpy(), np.zeros(2, np.int64), np.arange(2), "train")
    known = figures(train, Dataset({"train": train}, names, (), "tokens", None))

    for x in (ROWS, ROWS.float()):
        assert transform(form, x, known).tolist() == expected
    written = written_out(lambda x: transform(form, x, known), ROWS, as_floats=False)
    assert written is not None
    assert torch.equal(written(ROWS), torch.tensor(expected))
    assert form in applicable(known)
