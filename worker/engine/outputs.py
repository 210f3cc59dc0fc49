"""Which output activation and which loss belong together; shared by two checks."""

from service.contract.recipe import LossName
from worker.engine.subject import RAW_OUTPUTS, Subject

# (loss, output activation) that belong together, for one and for several outputs.
FITTING_ONE: frozenset[tuple[str, str]] = frozenset(
    {
        ("bce", "sigmoid"),
        ("bce_with_logits", "none"),
        ("hinge", "none"),
        ("focal", "none"),
        ("hinge", "tanh"),
    }
)
FITTING_MANY: frozenset[tuple[str, str]] = frozenset(
    {
        ("cross_entropy", "none"),
        ("nll", "log_softmax"),
        ("nll", "softmax"),
        ("bce", "sigmoid"),
        ("bce", "softmax"),
        ("bce_with_logits", "none"),
        ("cross_entropy", "log_softmax"),
        ("hinge", "none"),
        ("focal", "none"),
    }
)


def _output(subject: Subject) -> str:
    found = subject.network.output_activation
    return "none" if found in RAW_OUTPUTS else found


def fits(subject: Subject) -> bool:
    """Whether the loss fits what the network returns."""
    if subject.recipe.loss.targets == "index":
        return False
    pair = (subject.recipe.loss.name, _output(subject))
    return pair in (FITTING_ONE if subject.network.outputs == 1 else FITTING_MANY)


def may_lack_logarithm(subject: Subject) -> bool:
    """Whether the loss takes logarithms that the network may not give.

    In torch, nll_loss after a softmax runs without complaint, on the probabilities
    themselves; elsewhere a loss of that name takes their logarithm by itself.
    """
    return (
        subject.recipe.loss.name == "nll"
        and subject.network.outputs > 1
        and _output(subject) == "softmax"
    )


def is_misplaced_output(subject: Subject) -> bool:
    """Whether the output activation stands between the network and its loss."""
    return _output(subject) != "none" and not fits(subject)


def belongs_at_the_end(subject: Subject) -> bool:
    """Whether the output activation is a usual one, so that the loss is to blame."""
    output = _output(subject)
    if subject.network.outputs == 1:
        return output == "sigmoid"
    return output in ("softmax", "log_softmax")


def raw_loss(subject: Subject) -> LossName:
    """The nearest loss to the recipe's that takes raw outputs."""
    if subject.network.outputs == 1:
        return "bce_with_logits"
    if subject.recipe.loss.name in ("bce", "bce_with_logits"):
        return "bce_with_logits"
    return "cross_entropy"


def losses_for_output(subject: Subject) -> list[LossName]:
    """List the losses that fit the network's outputs as they are, best first."""
    output = _output(subject)
    if subject.network.outputs == 1:
        table: dict[str, list[LossName]] = {
            "sigmoid": ["bce"],
            "none": ["bce_with_logits"],
        }
        return table.get(output, [])
    many: dict[str, list[LossName]] = {
        "softmax": ["nll"],
        "log_softmax": ["nll"],
        "sigmoid": ["nll", "bce"],
        "none": ["cross_entropy"],
    }
    return many.get(output, ["cross_entropy"])
