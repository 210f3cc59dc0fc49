"""TorchScript graphs to programs.

The graph is read twice, once with the training flag on and once off. Where both
readings differ only in dropout, the first serves for both, since dropout and norms know
the flag themselves.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch

from worker.engine.network.kernels import DROPOUTS
from worker.engine.network.program import CannotLift, Program, text
from worker.engine.network.reading import Reading


@dataclass
class Lifted:
    """What reading a module gave.

    Attributes:
        train: the program with the training flag on.
        evaluate: the same with the flag off; the same object where they agree.
        parameters: delivered values, by name.
        buffers: delivered values, by name.
        origin: `scripted`, `traced` or `exported`.
        baked_training: dropout or batch statistics are on whatever the flag says.
        notes: what a reader of the report should know.
    """

    train: Program
    evaluate: Program
    parameters: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    origin: Literal["traced", "scripted", "exported", "made"]
    baked_training: bool
    notes: list[str] = field(default_factory=list)


def lift(module: torch.jit.ScriptModule) -> Lifted:
    """Read a module's forward method.

    Raises:
        CannotLift: no pure function can stand for it.
        StateKept: it writes to itself.
    """
    origin: Literal["traced", "scripted"] = (
        "traced" if is_traced(module) else "scripted"
    )
    train = Reading(module, training=True, traced=origin == "traced")
    try:
        train_program = train.read()
    except CannotLift:
        # State kept at inference is the graver finding: see whether there is any.
        Reading(module, training=False, traced=origin == "traced").read()
        raise
    evaluation = Reading(
        module, training=False, traced=origin == "traced", momenta=train.layers.momenta
    )
    eval_program = evaluation.read()
    drop = frozenset(DROPOUTS)
    if text(train_program, drop=drop) == text(eval_program, drop=drop):
        eval_program = train_program
    notes = []
    if eval_program is not train_program:
        notes.append(
            "The forward method does other work in training than at inference."
        )
    parameters = {
        name: tensor.detach().clone() for name, tensor in module.named_parameters()
    }
    promoted = train.layers.promoted
    parameters.update(promoted)
    if promoted:
        notes.append(
            f"The archive is frozen: {len(promoted)} constant tensors that stand "
            "where weights belong were taken for its parameters."
        )
    notes.extend(dict.fromkeys(train.layers.notes))
    return Lifted(
        train=train_program,
        evaluate=eval_program,
        parameters=parameters,
        buffers={name: b.detach().clone() for name, b in module.named_buffers()},
        origin=origin,
        baked_training=evaluation.layers.baked,
        notes=notes,
    )


def is_traced(module: torch.jit.ScriptModule) -> bool:
    """Tell whether a module was traced: its nodes then carry Python call stacks."""
    traced = scripted = 0
    for node in module.inlined_graph.nodes():
        if node.kind() in {"prim::If", "prim::Loop"}:
            return False
        if node.kind() == "prim::GetAttr" and node.s("name") == "training":
            return False
        source = str(node.sourceRange())
        if source.lstrip().startswith('File "'):
            scripted += 1
        elif source:
            traced += 1
    return traced > scripted
