"""Whether two runs of a model agree, but for arithmetic."""

import numpy as np
import torch
from torch import Tensor

from worker.engine.probes.inputs_as_trained import predictions
from worker.engine.probes.material import Material, Values, finite

TOLERANCE = 1e-3  # largest difference that counts as arithmetic, in output deviations


def compare(material: Material, one: Tensor, other: Tensor) -> Values:
    """Compare what was returned for the same rows, float, (rows, outputs).

    Returns:
        `changed`: share of predictions; `difference`: the largest, in deviations of the
        outputs, None where it is not finite; `non_finite`: only one of both is finite.
    """
    a = one.reshape(len(one), -1).double()
    b = other.reshape(len(other), -1).double()
    good = torch.isfinite(a) & torch.isfinite(b)
    odd = bool((torch.isfinite(a) != torch.isfinite(b)).any())
    spread = float(a[torch.isfinite(a)].std()) if bool(good.any()) else 0.0
    largest = float((a - b).abs()[good].max()) if bool(good.any()) else 0.0
    changed = float(np.mean(predictions(material, one) != predictions(material, other)))
    # Constant outputs have no spread; then the difference counts against their size.
    scale = max(
        spread, 1e-6 * float(a[good].abs().max()) if bool(good.any()) else 0, 1e-12
    )
    return {
        "changed": changed,
        "difference": None if odd else finite(largest / scale),
        "non_finite": odd,
    }


def exceeds(part: Values) -> bool:
    """Whether a difference is behaviour, not arithmetic."""
    if part.get("needs_company") or part.get("non_finite"):
        return True
    difference = part.get("difference")
    return isinstance(difference, float) and difference > TOLERANCE
