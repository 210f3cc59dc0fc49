"""Every probe by the name under which a `Measurement` asks for it."""

from worker.engine.probes import (
    codes,
    delivered,
    determinism,
    inputs,
    label_order,
    leakage,
    noise,
    order,
    preprocessing,
    segments,
    shift,
    signal,
    weights,
)
from worker.engine.probes.material import Probe

PROBES: dict[str, Probe] = {
    "codes": codes.measure,
    "delivered": delivered.measure,
    "determinism": determinism.measure,
    "inputs": inputs.measure,
    "label_order": label_order.measure,
    "leakage": leakage.measure,
    "noise": noise.measure,
    "order": order.measure,
    "preprocessing": preprocessing.measure,
    "segments": segments.measure,
    "shift": shift.measure,
    "signal": signal.measure,
    "weights": weights.measure,
}
