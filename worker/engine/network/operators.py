"""Names of TorchScript operators to ordinary functions."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch

Function = Callable[..., Any]


def _is_tensor(*values: object) -> bool:
    return any(isinstance(value, torch.Tensor) for value in values)


def _truncated(left: Any, right: Any, mode: str | None = None) -> Any:  # noqa: ANN401
    if mode == "trunc":
        return math.trunc(left / right)
    if mode == "floor":
        return left // right
    return left / right


_ARITHMETIC: dict[str, Function] = {
    "aten::add": lambda a, b, alpha=1: a + (b if alpha == 1 else b * alpha),
    "aten::sub": lambda a, b, alpha=1: a - (b if alpha == 1 else b * alpha),
    "aten::rsub": lambda a, b, alpha=1: b - a * alpha,
    "aten::mul": operator.mul,
    "aten::div": _truncated,
    "aten::floordiv": operator.floordiv,
    "aten::floor_divide": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::fmod": math.fmod,
    "aten::pow": operator.pow,
    "aten::neg": operator.neg,
    "aten::abs": abs,
    "aten::sqrt": math.sqrt,
    "aten::exp": math.exp,
    "aten::log": math.log,
    "aten::ceil": math.ceil,
    "aten::floor": math.floor,
    "aten::round": round,
    "aten::trunc": math.trunc,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::Int": int,
    "aten::Float": float,
    "aten::Bool": bool,
    "aten::__and__": operator.and_,
    "aten::__or__": operator.or_,
    "aten::__xor__": operator.xor,
    "prim::min": min,
    "prim::max": max,
    "prim::abs": abs,
    "aten::min": min,
    "aten::max": max,
}


def _set_item(values: Any, index: Any, value: Any) -> Any:  # noqa: ANN401
    values[index] = value
    return values


def _append(values: list[Any], value: Any) -> list[Any]:  # noqa: ANN401
    values.append(value)
    return values


def _insert(values: list[Any], index: int, value: Any) -> None:  # noqa: ANN401
    values.insert(index, value)


def _slice(values: Any, start: Any, end: Any, step: Any) -> Any:  # noqa: ANN401
    return values[slice(start, end, step)]


def _raise(message: object, *_: object) -> None:
    raise RuntimeError(f"the model raised: {message}")


def _number(value: Any) -> Any:  # noqa: ANN401
    return value


def _scalar(value: Any) -> Any:  # noqa: ANN401
    return value.item() if isinstance(value, torch.Tensor) else value


def _size(x: torch.Tensor, dim: int | None = None) -> Any:  # noqa: ANN401
    return list(x.shape) if dim is None else x.shape[dim]


def _tensor(
    data: Any,  # noqa: ANN401
    dtype: object = None,
    device: Any = None,  # noqa: ANN401
    *_: object,
) -> torch.Tensor:
    """Make a tensor of numbers; torch's own operator takes lists only from a graph."""
    kind = scalar_type(dtype)
    known = kind if isinstance(kind, torch.dtype) else None
    return torch.tensor(data, dtype=known, device=device)


def _list_of(*values: Any) -> list[Any]:  # noqa: ANN401
    return list(values)


def _tuple_of(*values: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return values


def _dict_of(*values: Any) -> dict[Any, Any]:  # noqa: ANN401
    return dict(zip(values[::2], values[1::2], strict=True))


def _format(template: str, *values: object) -> str:
    return template.format(*values)


PLAIN: dict[str, Function] = {
    "prim::ListConstruct": _list_of,
    "prim::TupleConstruct": _tuple_of,
    "prim::DictConstruct": _dict_of,
    "prim::ListUnpack": _number,
    "prim::TupleUnpack": _number,
    "prim::TupleIndex": operator.getitem,
    "prim::NumToTensor": _number,
    "prim::RaiseException": _raise,
    "prim::dtype": lambda x: x.dtype,
    "prim::device": lambda x: x.device,
    "prim::layout": lambda x: x.layout,
    "prim::is_cuda": lambda x: x.is_cuda,
    "prim::is_nested": lambda x: x.is_nested,
    "prim::is_sparse": lambda x: x.is_sparse,
    "prim::tolist": lambda x, *_: x.tolist(),
    "aten::ScalarImplicit": _scalar,
    "aten::IntImplicit": _scalar,
    "aten::FloatImplicit": _scalar,
    "aten::tensor": _tensor,
    "aten::as_tensor": _tensor,
    "aten::size": _size,
    "aten::dim": lambda x: x.dim(),
    "aten::numel": lambda x: x.numel(),
    "aten::is_floating_point": lambda x: x.is_floating_point(),
    "aten::is_complex": lambda x: x.is_complex(),
    "aten::stride": lambda x, *dim: list(x.stride()) if not dim else x.stride(*dim),
    "aten::len": len,
    "aten::list": list,
    "aten::append": _append,
    "aten::insert": _insert,
    "aten::extend": lambda values, more: values.extend(more),
    "aten::clear": lambda values: values.clear(),
    "aten::reverse": lambda values: values.reverse(),
    "aten::pop": lambda values, index=-1: values.pop(index),
    "aten::copy": lambda values: values.copy(),
    "aten::_set_item": _set_item,
    "aten::__getitem__": operator.getitem,
    "aten::__contains__": operator.contains,
    "aten::__not__": operator.not_,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__range_length": lambda low, high, step: len(range(low, high, step)),
    "aten::__derive_index": lambda index, start, step: start + index * step,
    "aten::keys": lambda values: list(values.keys()),
    "aten::values": lambda values: list(values.values()),
    "aten::items": lambda values: list(values.items()),
    "aten::format": _format,
    "aten::str": str,
}
# Applied when the values are lists, numbers or text rather than tensors.
_LISTS: dict[str, Function] = {"aten::slice": _slice, "aten::copy": list}
# Pictures may lie with their channels last; what was a view may have to be a copy then.
_VIEWS = frozenset({"aten::view", "aten::view.default"})
FOLDABLE = frozenset(
    {kind for kind in PLAIN if kind not in ("prim::RaiseException", "aten::tensor")}
    | set(_ARITHMETIC)
    | set(_LISTS)
)

_SCALAR_TYPES = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    11: torch.bool,
    15: torch.bfloat16,
}


def overload(op: str) -> Any:  # noqa: ANN401
    """Find torch's operator.

    Args:
        op: `namespace::name.overload`.

    Raises:
        LookupError: torch has none of that name.
    """
    namespace, _, rest = op.partition("::")
    name, _, which = rest.partition(".")
    if not namespace.isidentifier() or not name.isidentifier():
        raise LookupError(op)
    try:
        packet = getattr(getattr(torch.ops, namespace), name)
        return getattr(packet, which or "default")
    except (AttributeError, RuntimeError) as error:
        raise LookupError(op) from error


def scalar_type_positions(op: str) -> frozenset[int]:
    """Positions of the arguments that are dtypes, which graphs hold as numbers."""
    try:
        arguments = overload(op)._schema.arguments  # noqa: SLF001
    except LookupError:
        return frozenset()
    return frozenset(
        place
        for place, argument in enumerate(arguments)
        if "ScalarType" in str(argument.real_type)
    )


def scalar_type(value: object) -> object:
    """Translate a graph's number of a dtype; leave anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _SCALAR_TYPES.get(value, value)
    return value


def _torch_function(op: str) -> Function:
    """Wrap torch's operator so that all arguments may come by position."""
    target = overload(op)
    arguments = target._schema.arguments  # noqa: SLF001
    keywords = [argument.name for argument in arguments if argument.kwarg_only]
    positional = len(arguments) - len(keywords)
    if not keywords:
        return target  # type: ignore[no-any-return]

    def call(*values: Any) -> Any:  # noqa: ANN401
        named = dict(zip(keywords, values[positional:], strict=False))
        return target(*values[:positional], **named)

    return call


def function(op: str) -> Function:
    """Find the function for an operator.

    Raises:
        LookupError: there is none.
    """
    kind = op.partition(".")[0]
    numbers = _ARITHMETIC.get(kind) or _LISTS.get(kind)
    if numbers is not None:
        try:
            tensors = _torch_function(op)
        except LookupError:
            return numbers

        def either(*values: Any) -> Any:  # noqa: ANN401
            return (tensors if _is_tensor(*values[:2]) else numbers)(*values)

        return either
    if kind in PLAIN:
        return PLAIN[kind]
    if op in _VIEWS:
        return torch.reshape
    return _torch_function(op)
