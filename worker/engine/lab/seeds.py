"""The randomness of `engine.randomness` for torch."""

import torch

from worker.engine.randomness import derive


def torch_generator(device: torch.device, *parts: int | str) -> torch.Generator:
    """Return a torch generator on `device`, keyed by `parts`."""
    generator = torch.Generator(device=device)
    generator.manual_seed(derive(*parts))
    return generator
