"""What an uploaded model raises in its own code, and how that is told to a caller."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from service.contract.errors import UnusableModel
from worker.engine.memory import is_out_of_memory

# What operators, assertions and the interpreter raise. Our own mistakes look alike, so
# these are caught only round calls that run the model.
FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    torch.jit.Error,
)
_INTERPRETER = "The following operation failed in the TorchScript interpreter"
_RAISED = re.compile(r"[\w.]*(Error|Exception): ")
_MOST_CHARACTERS = 300


def cause_of(error: BaseException) -> str:
    """Say in one line what a model raised, whatever characters it put there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if first.startswith(_INTERPRETER):
        first = next((line for line in lines if _RAISED.match(line)), lines[-1])
    shown = "".join(one if one.isprintable() else "�" for one in first)
    return shown.partition(". ")[0][:_MOST_CHARACTERS].rstrip(".")


def on_samples(x: torch.Tensor) -> str:
    """Say on how many samples a model was run: `x`, (rows, *sample shape)."""
    return f"on {len(x)} sample{'' if len(x) == 1 else 's'} of the dataset"


@contextmanager
def own_code(doing: str) -> Iterator[None]:
    """Take what a call of the model raises for the model's own failure.

    Args:
        doing: what it was doing, as `on_samples` says.

    Raises:
        UnusableModel: it raised something. A lack of memory passes through.
    """
    try:
        yield
    except FAILURES as error:
        if is_out_of_memory(error):
            raise
        raise UnusableModel(
            f"The model fails {doing}: {cause_of(error)}. It is expected to answer "
            "every sample of the dataset, in batches of any size."
        ) from error


def check_answer(raw: object, x: torch.Tensor, outputs: int | None = None) -> None:
    """Refuse an answer that holds no numbers, or not those of every sample.

    A single sample's may lack the axis of rows: some models squeeze it away.

    Args:
        raw: what the model returned.
        x: (rows, *sample shape), what it was given.
        outputs: values a sample, where that is known.

    Raises:
        UnusableModel: with what was found and what is expected.
    """
    if not isinstance(raw, torch.Tensor):
        raise UnusableModel(
            f"The model returns nothing {on_samples(x)}: it raises an error, or ends "
            "before it returns."
        )
    if raw.layout != torch.strided or raw.is_quantized or raw.device != x.device:
        raise UnusableModel(
            f"The model returns a tensor of {raw.dtype}, laid out as {raw.layout}, on "
            f"{raw.device}; plain floats on {x.device}, where the samples are, are "
            "expected."
        )
    rows = len(x)
    has_rows = rows == 1 or (raw.dim() > 0 and len(raw) == rows)
    if not has_rows or (outputs is not None and raw.numel() != rows * outputs):
        values = f" of {outputs} values" if outputs is not None else ""
        raise UnusableModel(
            f"The model returns a tensor of shape {list(raw.shape)} "
            f"{on_samples(x)}; one row{values} a sample is expected."
        )
