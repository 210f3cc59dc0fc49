"""Exit codes, and how errors become them: a pipeline can rely on the four numbers."""

import functools
import json
import re
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console

from service.client import ClientError, Refused, Unreachable
from service.contract.errors import Crashed, FieldError
from service.contract.field_errors import escaped, in_words, of_one_reading
from service.contract.report import Report
from service.render.terminal import inert

PASSED = 0
GATE_FAILED = 1
BAD_INPUT = 2
BROKEN = 3

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Our classes and lists of names, where fields are written small.
_OF_A_KIND = re.compile(r"[A-Z]|\w+\[")

errors = Console(stderr=True)


def gate_code(report: Report) -> int:
    """Choose the exit code that a report's gate asks for."""
    return PASSED if report.gate.passed else GATE_FAILED


def stop(message: str, code: int) -> NoReturn:
    """Print why and leave."""
    errors.print(inert(message))
    raise typer.Exit(code)


def answers(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turn what a client or a file can raise into a message and an exit code."""

    @functools.wraps(command)
    def guarded(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except Refused as refused:
            stop(str(refused), _code(refused))
        except Unreachable as error:
            stop(f"{error}\nIs it running? Start it with `model-audit serve`.", BROKEN)
        except ClientError as error:
            stop(str(error), BROKEN)
        except ValidationError as error:
            stop(_fields(error), BAD_INPUT)
        except json.JSONDecodeError as error:
            stop(f"This is not JSON: {error}", BAD_INPUT)
        except UnicodeDecodeError as error:
            stop(f"This is not JSON: it is no text in Unicode ({error}).", BAD_INPUT)
        except OSError as error:
            stop(f"{error.filename or ''}: {error.strerror or error}", BAD_INPUT)

    return guarded


def _code(refused: Refused) -> int:
    is_callers = 400 <= refused.problem.status < 500  # noqa: PLR2004 - HTTP
    if is_callers and refused.problem.type != f"/problems/{Crashed.name}":
        return BAD_INPUT
    return BROKEN


def _fields(error: ValidationError) -> str:
    found = [
        FieldError(pointer=_pointer(one["loc"]), detail=in_words(one["msg"]))
        for one in error.errors(include_url=False, include_input=False)
    ]
    lines = [f"  {one.pointer}: {one.detail}" for one in of_one_reading(found)]
    return "\n".join([f"{error.title} is not valid:", *dict.fromkeys(lines)])


def _pointer(place: tuple[int | str, ...]) -> str:
    """Point into the JSON; kinds that a value may be of are no part of it."""
    parts = [str(part) for part in place]
    return "".join(f"/{escaped(part)}" for part in parts if not _OF_A_KIND.match(part))
