"""Which hidden units never react to the data."""

import torch
from torch import Tensor

from worker.engine.network.own_code import on_samples, own_code
from worker.engine.probes.inputs_as_trained import AsTrained
from worker.engine.probes.material import (
    Material,
    Values,
    batches,
    choose,
    few,
    on_device,
    sample_places,
)

MOST_ROWS = 1_000
LEAST_ROWS = 16
MOST_LISTED = 50


def dead_units(material: Material) -> Values:
    """Return, by hidden activation, the share of units that are constant on the data.

    A unit is a column of a dense layer or a channel of a convolution.

    Layers of equal name are told apart by their place.

    Raises:
        UnusableModel: the network fails on the data.
    """
    count = min(MOST_ROWS, few(material, 1, least=LEAST_ROWS))
    sample = choose(material.train, sample_places(material.train.y, count))
    low: dict[str, Tensor] = {}
    high: dict[str, Tensor] = {}
    prepare = AsTrained(material)
    parameters = on_device(material, material.network.parameters)
    buffers = on_device(material, material.network.buffers)
    with torch.no_grad():
        for rows in batches(len(sample), sample.x[:1].size):
            batch = prepare(sample.x[rows])
            with own_code(on_samples(batch)):
                seen = material.network.activations(
                    parameters,
                    buffers,
                    batch,
                )
            for place, layer in enumerate(seen):
                if layer.kind != "activation" or layer.value.ndim < 2:  # noqa: PLR2004
                    continue
                name = f"{place}:{layer.name}"
                if not layer.value.numel():
                    continue
                units = _by_unit(layer.value)
                least, most = units.amin(0), units.amax(0)
                low[name] = torch.minimum(low.get(name, least), least)
                high[name] = torch.maximum(high.get(name, most), most)
    return {
        name: float((high[name] <= low[name]).double().mean())
        for name in list(low)[:MOST_LISTED]
    }


def _by_unit(value: Tensor) -> Tensor:
    """Lay out an activation as (rows and places, units)."""
    if value.ndim == 4:  # noqa: PLR2004 - (rows, channels, height, width)
        return value.movedim(1, -1).reshape(-1, value.shape[1])
    return value.reshape(-1, value.shape[-1])
