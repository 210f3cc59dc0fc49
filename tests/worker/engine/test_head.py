"""How raw outputs are read."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from service.contract.errors import Mismatch, UnusableModel
from worker.engine.head import Head, find_head, fitting_loss, head_after
from worker.engine.network.network import Network
from worker.engine.network.torchscript import network_of

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def network(outputs: int = 3, *after: nn.Module) -> Network:
    module = nn.Sequential(nn.Linear(4, outputs), *after).eval()
    return network_of(torch.jit.script(module))


def returned(of: Network, rows: int = 50) -> torch.Tensor:
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0)) * 3
    return of.forward(of.parameters, of.buffers, x, training=False)[0].detach()


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        ((), "logits"),
        ((nn.Softmax(1),), "probabilities"),
        ((nn.LogSoftmax(1),), "log_probabilities"),
        ((nn.Sigmoid(),), "probabilities"),
        ((nn.ReLU(),), "logits"),
    ],
)
def test_the_kind_of_several_outputs_is_found(after, kind):
    subject = network(3, *after)

    head = find_head(subject, returned(subject), classes=3, loss=None)

    assert (head.kind, head.outputs, head.classes) == (kind, 3, 3)


@pytest.mark.parametrize(
    ("after", "loss", "kind", "threshold"),
    [
        ((), None, "logits", 0.0),
        ((), "bce_with_logits", "logits", 0.0),
        ((), "mse", "scores", 0.5),
        ((nn.ReLU(),), "bce", "scores", 0.5),
        ((nn.Sigmoid(),), None, "probabilities", 0.5),
        ((nn.Sigmoid(),), "bce_with_logits", "probabilities", 0.5),
        ((nn.Softmax(1),), "bce", "probabilities", 0.5),
        ((nn.Tanh(),), "hinge", "logits", 0.0),
    ],
)
def test_the_kind_of_one_output_is_found(after, loss, kind, threshold):
    subject = network(1, *after)

    head = find_head(subject, returned(subject), classes=2, loss=loss)

    assert (head.kind, head.outputs, head.threshold) == (kind, 1, threshold)


def test_one_output_without_an_axis_is_taken():
    subject = network(1, nn.Flatten(0))

    head = find_head(subject, returned(subject), classes=2, loss=None)

    assert head.outputs == 1


def test_probabilities_written_by_hand_are_seen_by_their_sums():
    raw = torch.softmax(torch.randn(50, 3), 1)

    assert find_head(network(3), raw, classes=3, loss=None).kind == "probabilities"
    assert find_head(network(3), raw.log(), classes=3, loss=None).kind == (
        "log_probabilities"
    )


@pytest.mark.parametrize(
    ("raw", "classes", "found"),
    [
        (torch.zeros(5, 4), 3, "returns 4 outputs a sample; the dataset has 3 classes"),
        (torch.zeros(5, 1), 3, "returns 1 output a sample"),
        (torch.zeros(5), 3, "returns 1 output a sample"),
    ],
)
def test_another_number_of_outputs_than_classes_is_a_mismatch(raw, classes, found):
    with pytest.raises(Mismatch, match=found):
        find_head(network(), raw, classes=classes, loss=None)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (torch.zeros(5, 3, 2), "no class axis"),
        (torch.tensor(1.0), "no class axis"),
        (torch.zeros(5, 3, dtype=torch.int64), "without its final argmax"),
    ],
)
def test_outputs_that_are_no_scores_are_refused(raw, found):
    with pytest.raises(UnusableModel, match=found):
        find_head(network(), raw, classes=3, loss=None)


VALUES = st.floats(width=32, allow_nan=True, allow_infinity=True)
KINDS = st.sampled_from(["logits", "log_probabilities", "probabilities", "scores"])


@settings(max_examples=150, deadline=None)
@given(kind=KINDS, outputs=st.sampled_from([1, 3]), data=st.data())
def test_log_probabilities_are_finite_and_predictions_classes(kind, outputs, data):
    rows = data.draw(
        st.lists(
            st.lists(VALUES, min_size=outputs, max_size=outputs), min_size=1, max_size=4
        )
    )
    raw = torch.tensor(rows)
    head = Head(kind, outputs, 2 if outputs == 1 else 3, 0.5)

    found, chosen = head.log_probabilities(raw), head.predict(raw)

    assert found.shape == (len(rows), head.classes)
    assert torch.isfinite(found).all()
    assert (found <= 1e-6).all()
    assert found.min() >= math.log(1e-12) - 1e-3
    assert chosen.dtype == torch.int64
    assert ((chosen >= 0) & (chosen < head.classes)).all()


def test_log_probabilities_are_exact_where_nothing_is_clamped():
    logits = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    expected = torch.log_softmax(logits, 1)

    for kind, raw in (
        ("logits", logits),
        ("log_probabilities", expected),
        ("probabilities", expected.exp()),
    ):
        torch.testing.assert_close(Head(kind, 3, 3).log_probabilities(raw), expected)


def test_one_output_splits_into_two_classes():
    raw = torch.tensor([[-2.0], [0.0], [3.0]], dtype=torch.float64)

    found = Head("logits", 1, 2, 0.0).log_probabilities(raw).exp()

    torch.testing.assert_close(found[:, 1], torch.sigmoid(raw[:, 0]))
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.float64))
    assert Head("logits", 1, 2, 0.0).predict(raw).tolist() == [0, 0, 1]


def test_an_output_that_is_not_above_the_threshold_is_the_first_class():
    """A ReLU leaves many at exactly 0, of which rounding makes class 0 as well."""
    head = Head("logits", 1, 2)

    assert head.predict(torch.tensor([[0.0], [1e-6], [-1.0]])).tolist() == [0, 1, 0]


def test_a_row_of_nothing_but_nan_is_the_first_class():
    raw = torch.tensor([[torch.nan, 1.0, 2.0], [torch.nan] * 3])

    assert Head("logits", 3, 3).predict(raw).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("outputs", "after", "loss"),
    [
        (3, (), "cross_entropy"),
        (3, (nn.Softmax(1),), "nll"),
        (3, (nn.LogSoftmax(1),), "nll"),
        (1, (), "bce_with_logits"),
        (1, (nn.Sigmoid(),), "bce"),
    ],
)
def test_the_fitting_loss_follows_the_outputs(outputs, after, loss):
    assert fitting_loss(network(outputs, *after)) == loss


def test_a_changed_network_is_read_by_its_last_activation_and_loss():
    assert head_after(network(3), "mse", 3).kind == "scores"
    assert head_after(network(3), "cross_entropy", 3).kind == "logits"
    assert head_after(network(1), "bce", 2).threshold == 0.5
    assert head_after(network(1, nn.Sigmoid()), "bce", 2).kind == "probabilities"
