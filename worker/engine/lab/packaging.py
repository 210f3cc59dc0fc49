"""A trained member as a TorchScript module that takes inputs as they were uploaded."""

import warnings

import torch
from torch import Tensor

from worker.engine.lab.members import Member


def packaged(
    member: Member, parameters: dict[str, Tensor], buffers: dict[str, Tensor]
) -> torch.jit.ScriptModule:
    """Return a member with these weights, its recipe's normalisation included."""
    affine = next((one for one in member.pipe.steps if one.affine is not None), None)
    shift = scale = None
    if affine is not None and affine.affine is not None:
        shift = torch.as_tensor(affine.affine.mean)
        scale = torch.as_tensor(affine.affine.std)
    with warnings.catch_warnings():  # TorchScript is what callers upload and get back
        warnings.simplefilter("ignore", DeprecationWarning)
        return member.network.script(
            parameters,
            {name: value.cpu() for name, value in buffers.items()},
            input_shift=shift,
            input_scale=scale,
        )
