"""Identifiers and figures as a person reads them; checks and the report share it."""

from collections.abc import Mapping, Sequence

from service.contract.causes import Cause
from worker.engine.affine import affine_figures, order_figures

AND = " + "  # between the mends that an arm makes, in its name
CONTROL = "|control"  # at the end of an arm's name, see `Mend.control_arm`
# The recipe on a subsample, trained for as many updates as all rows take.
FULL_LENGTH = f"full length{CONTROL}"
MOST_FIGURES = 4  # of a transformation, that a sentence lists
STOPPED = "A training was stopped by the budget at "

# What each of `probes.transforms` does to the inputs, imperative.
FORMS: dict[str, str] = {
    "identity": "leave them as they are",
    "standardize": "subtract the training data's mean and divide by its deviation",
    "standardize_each": "subtract the mean and divide by the deviation of each single "
    "value in the training data",
    "undo_standardize": "undo the recipe's normalisation",
    "scale_to_unit": "scale them to between 0 and 1",
    "minus_one_to_one": "scale them to between -1 and 1",
    "divide_255": "divide them by 255",
    "multiply_255": "multiply them by 255",
    "fixed_normalize": "normalise them by the customary figures of ImageNet, or of "
    "MNIST where there is one channel",
    "per_sample_standardize": "subtract each sample's own mean and divide by its own "
    "deviation",
    "per_sample_unit_norm": "divide each sample by its length",
    "normal_scores": "give each feature a normal shape, by the ranks of its values in "
    "the training data",
    "log1p": "take the logarithm of one plus each value",
    "invert": "turn light into dark and dark into light",
    "swap_channels": "reverse the order of the colour channels, RGB to BGR or back",
    "nhwc_to_nchw": "read the values as height, width, channel and put the channels "
    "first",
    "nchw_to_nhwc": "read the values as channel, height, width and put the channels "
    "last",
    "transpose_hw": "swap height and width",
    "flip_horizontal": "mirror left and right",
    "flip_vertical": "mirror top and bottom",
    "reverse_features": "reverse the order of the features",
    "next_id": "add one to all ids",
    "previous_id": "subtract one from all ids",
    "next_word": "add one to all ids but that of the padding",
    "previous_word": "subtract one from all ids but that of the padding",
    "padding_first": "put the padding before the tokens",
    "padding_last": "put the padding behind the tokens",
    "reverse_tokens": "reverse the order of the tokens",
}


def cause_words(cause: Cause) -> str:
    """Name a cause as in a sentence."""
    return cause.value.replace("_", " ")


def form_name(name: str) -> str:
    """Shorten the name of a transformation that has many figures."""
    return "+".join(_shortened(step) for step in name.split("+"))


def _shortened(step: str) -> str:
    figures = affine_figures(step)
    many = order_figures(step) or (figures[0] if figures else [])
    return f"{step.partition('(')[0]}(…)" if len(many) > MOST_FIGURES else step


def form_words(name: str) -> str:
    """Say what a transformation of the inputs does, each step of it."""
    return ", then ".join(
        FORMS.get(step) or _words_of_figures(step) for step in name.split("+")
    )


def _words_of_figures(step: str) -> str:
    if (order := order_figures(step)) is not None:
        first = ", ".join(str(k) for k in order[:MOST_FIGURES])
        more = ", …" if len(order) > MOST_FIGURES else ""
        return f"put the columns in the order of the training data ({first}{more})"
    read = affine_figures(step)
    if read is None:
        return f"apply `{step}`"
    if len(read[0]) > MOST_FIGURES:
        return "scale and shift each feature to its mean and deviation in training data"
    by = " by channel" if len(read[0]) > 1 else ""
    factors, terms = (listed([figure(v) for v in part]) for part in read)
    return f"multiply them by {factors} and add {terms}{by}"


def arm_words(name: str, texts: Mapping[str, str]) -> str:
    """Say what an arm of an experiment changes.

    Args:
        name: of the arm: keys of mends, joined by ` + `.
        texts: what each mend does, by key; what is not in it keeps its key.
    """
    if name == FULL_LENGTH:
        return "the recipe as it is, with as many updates as all rows would give"
    key = name.removesuffix(CONTROL)
    parts = [_lowered(texts.get(part, part)) for part in key.split(AND)]
    words = "; ".join(parts)
    return f"what to compare “{words}” with" if key != name else words


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def figure(value: float) -> str:
    """Show a quantity with three significant digits."""
    return f"{float(f'{value:.3g}'):g}"


def counted(number: int, noun: str) -> str:
    """Count things: `1 pair`, `3 pairs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str], joint: str = "and") -> str:
    """Join names as in a sentence: `a, b and c`."""
    if len(names) < 2:  # noqa: PLR2004 - nothing to join
        return "".join(names)
    return f"{', '.join(names[:-1])} {joint} {names[-1]}"
