"""The errors of the platform: an exception's class says its fate, and only its class does.

    PorticoError
    ├── RejectedError              the input can never succeed        4xx; dead letter, go on
    │   ├── InvalidError           400
    │   ├── UnauthenticatedError   401
    │   ├── ForbiddenError         403
    │   ├── NotFoundError          404
    │   ├── ConflictError          409
    │   └── GoneError              410
    ├── TooManyError               a limit was met                    429 + Retry-After
    ├── UnavailableError           a dependency may recover           503, or retried in place
    │   └── OverloadedError        the caller asks for too much       503, and told so
    ├── LostOwnershipError         another member owns the partition  drop the work in flight
    ├── FencedError                a successor publishes now          end this process
    └── SetupError                 the process cannot start           one message, exit status 2

Anything else is a bug: a 500 for that request, and a crash of the consumer, which commits nothing.
"""

from http import HTTPStatus


class PorticoError(Exception):
    """Something the platform expected could happen did. The message says what to do."""

    @property
    def message(self) -> str:
        """The text for whoever has to act; falls back to the first line of the class docstring."""
        if self.args:
            return str(self.args[0])
        return (type(self).__doc__ or type(self).__name__).splitlines()[0]

    def __str__(self) -> str:
        return self.message


class RejectedError(PorticoError):
    """The input can never succeed; correct it before sending it again."""

    status: HTTPStatus = HTTPStatus.BAD_REQUEST


class InvalidError(RejectedError):
    """Invalid parameters."""

    status = HTTPStatus.BAD_REQUEST


class UnauthenticatedError(RejectedError):
    """Unable to authenticate request"""  # noqa: D415 - the wire text has no full stop

    status = HTTPStatus.UNAUTHORIZED


class ForbiddenError(RejectedError):
    """Forbidden"""  # noqa: D415 - the wire text has no full stop

    status = HTTPStatus.FORBIDDEN


class NotFoundError(RejectedError):
    """Not Found"""  # noqa: D415 - the wire text has no full stop

    status = HTTPStatus.NOT_FOUND


class ConflictError(RejectedError):
    """The change contradicts the present state; read it again and decide anew."""

    status = HTTPStatus.CONFLICT


class GoneError(RejectedError):
    """What was asked for existed and cannot be had any more.

    Attributes:
        oldest: the cursor of the oldest place that can be served, where there are places; callers
            find it in the answer.
    """

    status = HTTPStatus.GONE

    def __init__(self, message: str = "", oldest: str = "") -> None:
        super().__init__(*([message] if message else []))
        self.oldest = oldest


class TooManyError(PorticoError):
    """Too many requests; wait the given seconds."""

    status: HTTPStatus = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(
        self, message: str = "Too many requests.", *, retry_after_seconds: int = 1
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(PorticoError):
    """A dependency does not answer now and may recover; try again after the given seconds."""

    status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(
        self, message: str = "Temporarily unavailable.", *, retry_after_seconds: int = 1
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OverloadedError(UnavailableError):
    """The answer costs more than may be spent on it now; the caller is told this message."""


class TooCostlyError(OverloadedError):
    """The answer alone costs more than one may, whoever else asks."""


class LostOwnershipError(PorticoError):
    """Another member owns the partition now; it repeats the work dropped here."""


class FencedError(PorticoError):
    """A successor has taken this publisher's place; this process must end."""


class SetupError(PorticoError):
    """The process cannot start as it is set up; the message names the setting or the part."""
