"""Reference networks as networks."""

import torch

from worker.engine.network.families import reference_module
from worker.engine.network.lowering import lift
from worker.engine.network.network import Network


def reference_network(
    family: str,
    *,
    sample_shape: tuple[int, ...],
    kind: str,
    classes: int,
    parameters: int,
    vocabulary: int | None = None,
) -> Network:
    """Make a fresh network of a family with about as many parameters.

    Args:
        family: `linear`, `dense`, `conv` or `recurrent`.
        sample_shape: of one sample.
        kind: what a sample is: `table`, `image`, `series` or `tokens`.
        classes: number of outputs.
        parameters: number of trainable values to come near.
        vocabulary: number of tokens, for `tokens`.

    Raises:
        SurgeryImpossible: the family does not fit the samples.
    """
    module: torch.jit.ScriptModule = reference_module(
        family,
        sample_shape=sample_shape,
        classes=classes,
        parameters=parameters,
        vocabulary=vocabulary if kind == "tokens" else None,
    )
    lifted = lift(module)
    lifted.origin = "made"
    made = Network.from_lifted(lifted, module)
    made.parameters, made.buffers = made.initial(0)
    return made
