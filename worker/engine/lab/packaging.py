"""A trained member as a TorchScript module that takes inputs as they were uploaded."""

import warnings

import torch
from torch import Tensor

from worker.engine.lab.members import Member


class Prepared(torch.nn.Module):
    """A network behind a layer that prepares its inputs."""

    def __init__(self, first: torch.nn.Module, network: torch.nn.Module) -> None:
        super().__init__()
        self.first = first
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Prepare and classify. `x`: (rows, *sample shape)."""
        out: Tensor = self.network(self.first(x))
        return out


def packaged(
    member: Member, parameters: dict[str, Tensor], buffers: dict[str, Tensor]
) -> torch.jit.ScriptModule:
    """Return a member with these weights, with what its arm does to inputs built in.

    Steps that have neither figures nor a layer are left out (see `is_complete`).
    """
    affine = next((one for one in member.pipe.steps if one.affine is not None), None)
    shift = scale = None
    if affine is not None and affine.affine is not None:
        shift = torch.as_tensor(affine.affine.mean)
        scale = torch.as_tensor(affine.affine.std)
    with warnings.catch_warnings():  # TorchScript is what callers upload and get back
        warnings.simplefilter("ignore", DeprecationWarning)
        module: torch.jit.ScriptModule = member.network.script(
            parameters,
            {name: value.cpu() for name, value in buffers.items()},
            input_shift=shift,
            input_scale=scale,
        )
        for step in reversed(member.pipe.steps):
            if step.layer is not None:
                module = torch.jit.script(Prepared(step.layer, module).eval())
    return module


def is_complete(member: Member) -> bool:
    """Whether the written model takes inputs as they were uploaded."""
    return all(
        step.affine is not None or step.layer is not None for step in member.pipe.steps
    )
