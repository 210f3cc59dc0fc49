"""Open a TorchScript archive as a network, or say why it cannot be audited."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import torch

from service.contract.errors import BadRequest, UnusableModel
from worker.engine.network.lowering import lift
from worker.engine.network.machine import check_operators
from worker.engine.network.network import Network, loaded
from worker.engine.network.opaque import OpaqueNetwork
from worker.engine.network.program import CannotLift, StateKept
from worker.engine.network.records import check_records

_EXPECTED = (
    "A classifier is expected: one tensor in; (batch, classes) floats out, or (batch,) "
    "or (batch, 1) for two classes; nothing kept between calls."
)


def load_torchscript(file: BinaryIO) -> Network:
    """Load an archive. Only ever called inside the confined process.

    Raises:
        BadRequest: it is no TorchScript archive, or its weights are cut off.
        UnusableModel: it is one, but no classifier that can be audited.
    """
    check_records(file)
    try:
        module = loaded(file)
    except MemoryError:
        raise
    except Exception as error:  # it raises whatever bytes lead to
        first = str(error).strip().partition("\n")[0]
        raise BadRequest(
            f"The file does not open as a TorchScript archive: {first[:300]}"
        ) from error
    return network_of(module)


def network_of(module: torch.jit.ScriptModule) -> Network:
    """Turn a loaded module into a network.

    Raises:
        UnusableModel: it is no classifier that can be audited.
    """
    check_signature(module)
    try:
        lifted = lift(module)
        check_operators(lifted.train)
        check_operators(lifted.evaluate)
    except StateKept as found:
        raise UnusableModel(
            f"The model keeps state between calls: {found}. {_EXPECTED}"
        ) from found
    except CannotLift as found:
        check_parameters(dict(module.named_parameters()))
        return OpaqueNetwork(module, str(found))
    check_parameters(lifted.parameters)
    return Network.from_lifted(lifted, module)


def check_signature(module: torch.jit.ScriptModule) -> None:
    """Refuse what takes or returns anything but one tensor.

    Raises:
        UnusableModel: it does.
    """
    if not module._c._has_method("forward"):  # noqa: SLF001
        raise UnusableModel(f"The archive has no `forward` method. {_EXPECTED}")
    schema: Any = getattr(module.forward, "schema")  # noqa: B009
    required = [a for a in schema.arguments[1:] if not a.has_default_value()]
    if len(required) != 1 or len(schema.arguments) != 2:  # noqa: PLR2004
        given = ", ".join(f"{a.name}: {a.type}" for a in schema.arguments[1:])
        written = sorted(set(_written(module.inlined_graph)))
        state = f" and keeps state in `{'`, `'.join(written)}`" if written else ""
        raise UnusableModel(
            f"The model takes {len(schema.arguments) - 1} inputs ({given}){state}. "
            f"{_EXPECTED}"
        )
    if str(schema.arguments[1].type) != "Tensor":
        raise UnusableModel(
            f"The model's input is of type {schema.arguments[1].type}. {_EXPECTED}"
        )
    returned = [str(value.type) for value in schema.returns]
    if returned != ["Tensor"]:
        raise UnusableModel(
            f"The model returns {', '.join(returned) or 'nothing'}. {_EXPECTED}"
        )


def _written(block: Any) -> Iterator[str]:  # noqa: ANN401
    """Names of the attributes that a graph writes to."""
    for node in block.nodes():
        if node.kind() == "prim::SetAttr":
            yield str(node.s("name"))
        for inner in node.blocks():
            yield from _written(inner)


def check_parameters(parameters: dict[str, torch.Tensor]) -> None:
    """Refuse a model without trainable parameters of floating-point type.

    Raises:
        UnusableModel: it has none.
    """
    if not parameters:
        raise UnusableModel(
            "The model has no parameters that could be trained: it is quantised, or "
            f"computes by rules alone. {_EXPECTED}"
        )
    for name, tensor in parameters.items():
        if tensor.is_quantized or not tensor.is_floating_point():
            raise UnusableModel(
                f"Parameter `{name}` is {tensor.dtype}; floats are expected."
            )
