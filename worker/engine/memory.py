"""Whether an exception tells that memory ran out."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory, which torch's processor side reports as plain text."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "not enough memory" in text
        or "can't allocate memory" in text
    )
