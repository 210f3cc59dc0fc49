"""Names of a module's tensors; tied ones share their first."""

import torch

from worker.engine.network.program import Buffer, Parameter


def storage_of(tensor: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """What two views of one parameter share."""
    return tensor.data_ptr(), tuple(tensor.shape)


def canonical_names(
    module: torch.jit.ScriptModule,
) -> dict[str, Parameter | Buffer]:
    """Map every path to a parameter or buffer to its first name; tied ones share it."""
    found: dict[str, Parameter | Buffer] = {}
    known: dict[tuple[int, tuple[int, ...]], str] = {}
    for name, tensor in module.named_parameters():
        known[storage_of(tensor)] = name
        found[name] = Parameter(name)
    for name, _ in module.named_buffers():
        found[name] = Buffer(name)
    for name, tensor in module.named_parameters(remove_duplicate=False):
        found.setdefault(name, Parameter(known.get(storage_of(tensor), name)))
    return found
