"""What a node of a TorchScript graph says about itself."""

from typing import Any

from worker.engine.network.program import LIST_MUTATORS, Constant, Operand


def is_true(value: Any, operands: dict[str, Operand]) -> bool:  # noqa: ANN401
    """Tell whether a value is the constant True, also before its node was read."""
    node = value.node()
    if node.kind() == "prim::Constant":
        return bool(value.toIValue())
    known = operands.get(value.debugName())
    return isinstance(known, Constant) and known.value is True


def is_mutated(node: Any) -> bool:  # noqa: ANN401
    """Tell whether a list is written to after it was made, or might be."""
    for output in node.outputs():
        if not str(output.type()).endswith(("[]", ")")) and "List" not in str(
            output.type()
        ):
            continue
        for use in output.uses():
            if use.user.kind() in LIST_MUTATORS | {"prim::Loop", "prim::If"}:
                return True
    return node.kind() in LIST_MUTATORS


def qualified_name(node: Any) -> str:  # noqa: ANN401
    """Name of its operator, with the overload where it has one."""
    schema = node.schema()
    if not schema.startswith(node.kind()):  # prim::ListConstruct and the like have none
        return str(node.kind())
    return str(schema.partition("(")[0])


def scope_of(node: Any) -> str:  # noqa: ANN401
    """Path of the module it came from, where known."""
    return str(node.scopeName()).rpartition("__module.")[2]
