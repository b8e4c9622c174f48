"""Why a request is not met: the JSON of every answer that is an error."""

import msgspec

from streamvis.errors import DataError, RunError, StreamvisError, UsageError
from streamvis.events.log import GoneError
from streamvis.logs import redacted
from streamvis.runtime.control_client import NewerError, UnknownSourceError

LONGEST = 200  # characters that are quoted of a request


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not met."""

    message: str  # all of it, in one line
    where: str  # part of the request, or of the server
    found: str  # what is there
    expected: str = ""  # what should be there
    to_do: str = ""  # what to do about it


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: Problem


class RefusedError(StreamvisError):
    """A request that is not met, with the status of the answer."""

    def __init__(
        self,
        status: int,
        where: str,
        found: str,
        *,
        expected: str = "",
        to_do: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        parts = [f"{where}: {found}", expected and f"expected {expected}", to_do]
        super().__init__("; ".join(filter(None, parts)))
        self.status = status
        self.headers = headers or {}
        self.problem = Problem(
            message=str(self), where=where, found=found, expected=expected, to_do=to_do
        )

    def body(self) -> bytes:
        """Return the JSON of the answer."""
        return msgspec.json.encode(ErrorBody(self.problem))


def refusal_of(error: StreamvisError) -> RefusedError:
    """Return an error of the packages below as the refusal of a request."""
    match error:
        case RefusedError():
            return error
        case GoneError():
            status = 410
        case NewerError():
            status = 412
        case UnknownSourceError():
            status = 404
        case UsageError():  # the run refuses it
            status = 409
        case RunError():
            status = 503
        case DataError():
            status = 404
        case _:
            status = 400
    return RefusedError(status, "the request", redacted(str(error)))


def shown(text: str) -> str:
    """Return text of a request for an error: short, without what would break a line."""
    printable = "".join(c if c.isprintable() else "?" for c in text[:LONGEST])
    return f"'{printable}{'…' if len(text) > LONGEST else ''}'"
