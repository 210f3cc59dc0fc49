"""What one pass knows (training or not, noise, buffers), and dropout by that noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch


@dataclass
class Run:
    """One pass through a network.

    Attributes:
        training: whether dropout and batch statistics are on.
        buffers: as given; what the pass renews is replaced, the tensors never written.
        noise: one tensor of uniform [0, 1) a dropout site, in order of execution.
        sites: shapes of the noise asked for so far.
    """

    training: bool
    buffers: dict[str, torch.Tensor]
    noise: Sequence[torch.Tensor] | None = None
    sites: list[tuple[int, ...]] = field(default_factory=list)

    def uniform(self, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """Take the next noise, or draw it from torch's generator."""
        place = len(self.sites)
        self.sites.append(shape)
        if self.noise is None:
            return torch.rand(shape, device=like.device, dtype=like.dtype)
        return self.noise[place].reshape(shape)


def is_batched(*tensors: object) -> bool:
    """Tell whether any tensor is wrapped by torch.func (vmap, grad)."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # noqa: SLF001
    return any(isinstance(t, torch.Tensor) and wrapped(t) for t in tensors)


def dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Keep each value where its noise is at least p, scaled by 1 / (1 - p)."""
    return _dropped(run, x, p, tuple(x.shape))


def feature_dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Drop whole channels."""
    return _dropped(run, x, p, (*x.shape[:2], *[1] * (x.dim() - 2)))


def _dropped(
    run: Run, x: torch.Tensor, p: float, shape: tuple[int, ...]
) -> torch.Tensor:
    if not run.training or p == 0:
        return x
    noise = run.uniform(shape, x)
    if p >= 1:
        return x * 0
    return x * (noise >= p).to(x.dtype) * (1 / (1 - p))


def alpha_dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Dropout that keeps mean and variance of self-normalising networks.

    Source: Klambauer et al. 2017, arXiv:1706.02515; constants as in torch.
    """
    return _alpha_dropped(run, x, p, tuple(x.shape))


def feature_alpha_dropout(run: Run, x: torch.Tensor, p: float) -> torch.Tensor:
    """Alpha dropout of whole channels."""
    return _alpha_dropped(run, x, p, (*x.shape[:2], *[1] * (x.dim() - 2)))


def _alpha_dropped(
    run: Run, x: torch.Tensor, p: float, shape: tuple[int, ...]
) -> torch.Tensor:
    if not run.training or p == 0:
        return x
    keep = (run.uniform(shape, x) >= p).to(x.dtype)
    if p >= 1:
        return x * 0
    alpha = 1.7580993408473766
    scale = 1 / math.sqrt((alpha**2 * p + 1) * (1 - p))
    shift = (keep - 1) * (alpha * scale) + alpha * scale * p
    return x * (keep * scale) + shift
