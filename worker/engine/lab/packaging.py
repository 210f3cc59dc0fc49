"""A trained member as a TorchScript module that takes inputs as they were uploaded."""

import warnings

import torch
from torch import Tensor, nn

from worker.engine.lab.members import Member


class Normalized(nn.Module):
    """A network behind the shift and scale that it was trained with."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and classify. `x`: (rows, *sample shape)."""
        out: Tensor = self.network((x - self.shift) / self.scale)
        return out


def packaged(
    member: Member, parameters: dict[str, Tensor], buffers: dict[str, Tensor]
) -> torch.jit.ScriptModule:
    """Return a member with these weights, its recipe's normalisation included."""
    script = member.network.script(
        parameters, {name: value.cpu() for name, value in buffers.items()}
    )
    affine = next((one for one in member.pipe.steps if one.affine is not None), None)
    if affine is None or affine.affine is None:
        return script
    dtype = next(iter(parameters.values())).dtype
    wrapped = Normalized(
        script,
        torch.as_tensor(affine.affine.mean, dtype=dtype),
        torch.as_tensor(affine.affine.std, dtype=dtype),
    )
    with warnings.catch_warnings():  # TorchScript is what callers upload and get back
        warnings.simplefilter("ignore", DeprecationWarning)
        module: torch.jit.ScriptModule = torch.jit.script(wrapped.eval())
    return module
