"""Sees every operator that reaches the kernels, below `vmap` and gradients."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Passing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode in which operators pass through `passes`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or the compiler is imported, for a second, to be kept out

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def passes(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - an operator's overload, and whatever it gives
        """Run an operator, or do something in its place."""
        return func(*args, **kwargs)

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        return self.passes(func, args, kwargs or {})
