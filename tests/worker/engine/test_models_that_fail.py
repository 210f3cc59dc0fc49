"""Models that fail in their own code are refused in words, or one thing is left out."""

import pytest
import torch
from torch import nn

from service.contract.errors import UnusableModel
from tests.worker.engine.opened import (
    RECIPE,
    audited,
    dataset,
    network,
    open_session,
)
from worker.engine.network.own_code import cause_of

INTERPRETER = """\
The following operation failed in the TorchScript interpreter.
Traceback of TorchScript (most recent call last):
    ~~~~~ <--- HERE
RuntimeError: AssertionError: only four
"""


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()


class FewerRows(Odd):
    def forward(self, x):
        return self.inner(x)[:2]


class Nothing(Odd):
    def forward(self, x) -> torch.Tensor:
        raise RuntimeError("boom")


class Sparse(Odd):
    def forward(self, x):
        return self.inner(x).to_sparse()


class Nowhere(Odd):
    def forward(self, x):
        return torch.empty([x.size(0), 3], device=torch.device("meta"))


class FourOnly(Odd):
    def forward(self, x):
        assert x.size(0) == 4, "only four"
        return self.inner(x)


class NoneAlone(Odd):
    def forward(self, x):
        if x.size(0) < 2:
            raise ValueError("two at least")
        return self.inner(x)


class Elsewhere(Odd):
    def forward(self, x):
        return self.inner(x + torch.zeros([4], device=torch.device("cuda:0")))


class Detached(Odd):
    def forward(self, x):
        return self.inner(x).detach()


class Rounded(Odd):
    def forward(self, x):
        return torch.softmax(self.inner(x), 1).round(decimals=2)


class Decided(Odd):
    def forward(self, x):
        return (self.inner(x) > 0).float()


class Ungraded(Odd):
    def forward(self, x):
        with torch.no_grad():
            return self.inner(x)


class Full(Odd):
    def forward(self, x):
        return torch.softmax(self.inner(x * 1e6), 1)


class Choosy(Odd):
    def forward(self, x):
        if x.size(0) == 32:  # as the probe for company has it
            raise RuntimeError("not these\x1b[31m")
        return self.inner(x)


class Greedy(Odd):
    def forward(self, x):
        return self.inner(x) + torch.zeros([140737488355328])[:3]


class Unread(Odd):
    """Draws in place, which the engine cannot read."""

    def forward(self, x):
        out = self.inner(x)
        if self.training:
            out = out * torch.empty([x.size(0), 1]).bernoulli_(0.9)
        return out


class Looked(nn.Module):
    """Looks values up, none of which lies beyond the table."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(-2, 2, 8))
        self.table = nn.Embedding(9, 4)
        self.layer = nn.Linear(16, 3)

    def forward(self, x):
        return self.layer(self.table(torch.bucketize(x, self.edges)).flatten(1))


def measured(session, name: str, **settings):
    return session.run(
        {"kind": "measurement", "question": "?", "name": name, "settings": settings}
    )


def trained(session, *arms):
    return session.run(
        {
            "kind": "training",
            "round": "screen",
            "question": "?",
            "arms": list(arms),
            "seeds": [0],
        }
    )


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (FewerRows(), ["[2, 3]", "one row"]),
        (Nothing(), ["returns nothing", "raises an error"]),
        (Sparse(), ["sparse", "plain floats"]),
        (Nowhere(), ["meta", "plain floats"]),
        (FourOnly(), ["only four", "any size"]),
    ],
)
def test_answers_that_cannot_be_used_are_refused_with_what_is_expected(
    tmp_path, module, words
):
    with pytest.raises(UnusableModel) as refusal:
        open_session(tmp_path, module)

    assert all(word in refusal.value.detail for word in words)


def test_a_model_that_fails_on_some_samples_is_refused_with_its_own_words(tmp_path):
    session = open_session(tmp_path, Choosy(), data=dataset(rows=200))

    with pytest.raises(UnusableModel, match=r"on 32 samples .* not these�"):
        measured(session, "determinism")


def test_a_model_that_needs_company_is_audited_with_a_remark(tmp_path):
    session = open_session(tmp_path, NoneAlone())

    outcome = measured(session, "determinism")

    assert "two at least" in outcome["notes"][0]
    assert outcome["values"]["varies"] is False


def test_an_archive_for_another_device_is_audited_as_it_was_read(tmp_path):
    session = open_session(tmp_path, Elsewhere())

    outcome = measured(session, "determinism")

    assert outcome["values"]["varies"] is False
    assert any("audited as read" in note for note in session.subject.notes)


def test_a_lack_of_memory_is_not_called_the_models_mistake(tmp_path):
    with pytest.raises(RuntimeError, match="allocate"):
        open_session(tmp_path, Greedy())


def test_a_network_in_bfloat16_is_trained(tmp_path):
    session = open_session(tmp_path, network().bfloat16())

    [arm] = trained(session, {"name": "baseline"})["arms"]

    assert arm["failure"] is None


def test_a_network_that_could_not_be_read_is_trained(tmp_path):
    session = open_session(tmp_path, Unread())

    [arm] = trained(session, {"name": "baseline"})["arms"]

    assert session.subject.network.outputs == 3
    assert arm["failure"] is None


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_layers_without_width_have_no_odd_rows(tmp_path):
    module = nn.Sequential(nn.Linear(4, 0), nn.ReLU(), nn.Linear(0, 3))
    session = open_session(tmp_path, module)

    values = measured(session, "weights")["values"]

    assert (values["zero_rows"], values["duplicate_rows"]) == ({}, {})


def test_a_changed_network_that_fails_in_training_is_left_out_alone(tmp_path):
    session = open_session(tmp_path, Looked())
    recurrent = {"kind": "network", "name": "reference", "to": "recurrent"}

    costs = measured(session, "cost", networks=[[recurrent]])
    outcome = trained(
        session, {"name": "baseline"}, {"name": "other", "changes": [recurrent]}
    )

    baseline, other = outcome["arms"]
    assert costs["values"]["relative"] == {}
    assert baseline["failure"] is None
    assert "index out of range" in other["failure"]
    assert other["unforeseen"]


def test_a_model_that_cannot_be_trained_as_it_is_is_refused(tmp_path):
    recipe = RECIPE | {"loss": {"name": "nll"}}
    session = open_session(
        tmp_path, network(classes=1), recipe=recipe, data=dataset(classes=2)
    )

    with pytest.raises(UnusableModel, match="by the recipe: nll needs one output"):
        trained(session, {"name": "baseline"})


@pytest.mark.parametrize("module", [Detached(), Rounded(), Decided(), Ungraded()])
def test_of_a_model_that_nothing_can_move_only_the_delivery_is_judged(tmp_path, module):
    session = open_session(tmp_path, module)

    report = audited(session)

    verdicts = {f["cause"]: f["verdict"] for f in report["findings"]}
    assert any("no gradient of what it returns" in one for one in report["limits"])
    assert verdicts["learning_rate_too_low"] == "inconclusive"
    assert verdicts["insufficient_training"] == "inconclusive"
    assert verdicts["unsuitable_loss"] == "inconclusive"
    assert verdicts["label_order_mismatch"] == "not_found"
    assert verdicts["training_mode_left_on"] == "not_found"


@pytest.mark.parametrize(
    ("module", "classes"),
    [
        (Full(), 3),
        (nn.Sequential(network(classes=1), nn.Softmax(1)), 2),  # always one
        (nn.Sequential(network(), nn.Dropout(0.95)), 3),  # drops most of them
    ],
)
def test_outputs_that_can_be_mended_do_not_make_a_model_untrainable(
    tmp_path, module, classes
):
    session = open_session(tmp_path, module, data=dataset(classes=classes))

    assert session.subject.untrainable is None


@pytest.mark.parametrize(
    ("raised", "cause"),
    [
        ("", "RuntimeError"),
        ("shapes differ. Please file an issue.\nmore", "shapes differ"),
        (INTERPRETER, "RuntimeError: AssertionError: only four"),
    ],
)
def test_the_cause_is_one_line(raised, cause):
    assert cause_of(RuntimeError(raised)) == cause
