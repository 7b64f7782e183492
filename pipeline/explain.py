"""Finds what a failed run's user has to know in the exception that came out of it."""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from branchline.schemas import BranchlineError

_BEAM_STEP = re.compile(r""" \[while running ['"].*?['"]\]""", re.DOTALL)
# Beam's worker processes send an exception as the text of its traceback.
_OURS_AS_TEXT = re.compile(r"^branchline\.\S*?\.\w+Error: (.+?)(?=\n\S*Traceback|\Z)", re.M | re.S)
_ANY_AS_TEXT = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception)): (.+)$", re.M)

_ERRNO = re.compile(r"\[Errno (\d+)\]")

_AGAIN = "once it is mended, the same command goes on from there: what is finished is kept"


@dataclass(frozen=True)
class Failure:
    """Why a run failed: `cause` in one line, and what `advice` there is."""

    cause: str
    advice: str


def explain(error: BaseException) -> Failure:
    """Says why a run failed, by the innermost error that was meant for the user.

    Args:
        error: What the run raised. Beam adds the step that was running to a message, raises
            copies, and in worker processes makes texts of them; TFX wraps them once more.

    Returns:
        The message alone where a BranchlineError is found, otherwise the innermost error with
        its type.
    """
    chain = list(_chain(error))
    for link in reversed(chain):
        if isinstance(link, BranchlineError):
            return Failure(_clean(str(link)), _AGAIN)
    text = "\n".join(str(link) for link in chain)
    ours = _OURS_AS_TEXT.findall(text)
    if ours:
        return Failure(_clean(ours[-1]), _AGAIN)
    innermost = chain[-1]
    found = _ANY_AS_TEXT.findall(str(innermost)) if "Traceback" in str(innermost) else []
    kind, message = found[-1] if found else (type(innermost).__name__, str(innermost))
    kind = kind.rpartition(".")[2]
    return Failure(f"{kind}: {_clean(message)}" if message else kind, _advice(innermost, kind))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _clean(message: str, length: int = 600) -> str:
    message = " ".join(_BEAM_STEP.sub("", message).split())
    if len(message) <= length:
        return message
    return f"{message[: 2 * length // 3]} … {message[-length // 3 :]}"  # it ends with what to do


def _advice(error: BaseException, kind: str) -> str:
    numbers = {int(number) for number in _ERRNO.findall(str(error))}
    # TensorFlow makes of it the error that it also has for a memory that is full.
    if numbers & {errno.ENOSPC, errno.EDQUOT} or os.strerror(errno.ENOSPC) in str(error):
        return "the disk is full: make room, or choose another place with --output"
    if errno.EROFS in numbers:
        return "nothing can be written there: choose another place with --output"
    if kind in ("ResourceExhaustedError", "MemoryError", "OutOfMemoryError"):
        return "memory ran out: try a smaller batch, such as --set training.batch_size=32"
    return f"the log has the whole traceback; {_AGAIN}"
