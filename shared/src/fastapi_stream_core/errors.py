"""The errors of the core: each one names what was given, what was expected and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .shown_address import scrub, without_credentials

if TYPE_CHECKING:
    from .broker import Broker

__all__ = (
    "BrokerUnavailable",
    "ContextError",
    "DecodeError",
    "EncodeError",
    "NotStarted",
    "PublishError",
    "ReplyRefused",
    "SetupError",
    "StartInterrupted",
    "StreamError",
    "WrongEventLoop",
)


def shorten(text: str, most: int = 80) -> str:
    """Return a text that somebody else chose as it may stand in an error: quoted, control characters escaped."""
    return repr(text) if len(text) <= most else f"{text[:most]!r}... ({len(text)} characters)"


def said(reason: BaseException | str, most: int = 1000) -> str:
    """Return what a client library said, bounded and without the credentials that it may quote."""
    text = reason if isinstance(reason, str) else f"{type(reason).__name__}: {reason}"
    return _bounded(scrub(text), most)


def _bounded(text: str, most: int = 2000) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


class StreamError(Exception):
    """Base of every error that this project raises itself.

    Attributes:
        is_told: whether the log says already why a source raised it, or the next source says it.
    """

    is_told: bool = False


class SetupError(StreamError, ValueError):
    """A declaration can't work.

    Attributes:
        subject: what is declared wrong: a handler, an option, a router.
        problem: what was given and what was expected.
        fix: what to do instead.
    """

    def __init__(self, subject: str, problem: str, fix: str) -> None:
        subject, problem = _bounded(subject), _bounded(problem)
        super().__init__(f"{subject}: {problem}; {fix}.")
        self.subject = subject
        self.problem = problem
        self.fix = fix


class BrokerUnavailable(StreamError, ConnectionError):
    """The broker did not answer in time.

    Attributes:
        address: where it was expected, without credentials.
        operation: what was tried: `connect`, `publish`, ...
        seconds: for how long it was tried; 0 when it failed at once.
        reason: what the client library said last, without credentials; None when it said nothing.
    """

    def __init__(self, address: str, operation: str, seconds: float, reason: BaseException | str | None = None) -> None:
        address = without_credentials(address)
        reason = said(reason) if reason else None
        because = f": {reason}" if reason else ""
        when = f" after {seconds:.3g} s" if seconds > 0 else ""
        super().__init__(
            f"{operation} to the broker at {address} failed{when}{because};"
            " check that it runs and that the address, TLS and credentials are right."
        )
        self.address = address
        self.operation = operation
        self.seconds = seconds
        self.reason = reason


class NotStarted(StreamError, RuntimeError):
    """A broker was used before `start()`, or after `stop()`.

    In a handler it is as `BrokerUnavailable`: not the message's fault, which waits until the broker is started.

    Attributes:
        broker: name of the broker's class.
    """

    def __init__(self, broker: str, instance: Broker | None = None) -> None:
        super().__init__(
            f"{broker} is not started, so it can't publish; include its router in the app, pass"
            " `lifespan=router.lifespan_context`, or use `async with broker:`"
            " (the lifespan of a mounted sub-application is never run)."
        )
        self.broker = broker
        self._instance = instance


class StartInterrupted(StreamError, RuntimeError):
    """A broker was stopped while `start()` was going on; nothing is left of the start.

    So is a start by one of its own handlers while the broker stops: the stop waits for the handler.

    Attributes:
        broker: name of the broker's class.
    """

    def __init__(self, broker: str, by_handler: bool = False) -> None:
        super().__init__(
            f"{broker} stops, and waits for the handler that wants to start it again; start it outside of its handlers."
            if by_handler
            else f"{broker} was stopped while it started, so it is not started; call start() again."
        )
        self.broker = broker


class PublishError(StreamError):
    """The broker refused a message.

    Attributes:
        address: where it was published to.
        reason: what the broker or its client said, without credentials.
    """

    def __init__(self, address: str, reason: BaseException | str) -> None:
        self.address = address
        self.reason = said(reason)
        super().__init__(f"the message to {shorten(address)} was not accepted: {self.reason}.")


class ReplyRefused(StreamError):
    """An answer is not sent to where its message asks for it.

    Attributes:
        reply_to: the address that the sender of the message chose.
        reason: why it is not answered.
    """

    def __init__(self, reply_to: str, reason: str) -> None:
        super().__init__(
            f"no answer was sent to {shorten(reply_to)}: {reason};"
            " if senders may choose such addresses, say so with the option replies=."
        )
        self.reply_to = reply_to
        self.reason = reason


class WrongEventLoop(StreamError, RuntimeError):
    """A broker was used from another event loop than the one that it was started on.

    Attributes:
        broker: name of the broker's class.
    """

    def __init__(self, broker: str) -> None:
        super().__init__(
            f"{broker} belongs to another event loop, so nothing was sent; from a thread call"
            " `anyio.from_thread.run(broker.publish, ...)`, or start a broker of its own on this loop."
        )
        self.broker = broker


class DecodeError(StreamError, ValueError):
    """A body is not what its content type says.

    Attributes:
        content_type: the content type that was declared, if any.
        size: length of the body in bytes.
    """

    def __init__(self, content_type: str | None, size: int, reason: BaseException) -> None:
        super().__init__(f"a body of {size} bytes can't be decoded as {content_type or 'JSON'}: {reason}.")
        self.content_type = content_type
        self.size = size


class EncodeError(StreamError, TypeError):
    """A value can't be published.

    Attributes:
        kind: name of its type.
        reason: what was in the way.
    """

    def __init__(self, value: object, reason: BaseException) -> None:
        self.kind = type(value).__name__
        self.reason = f"{type(reason).__name__}, {_why(reason)}"
        super().__init__(
            f"a value of type {self.kind} can't be encoded as JSON ({self.reason}); publish bytes, text, a pydantic"
            " model, a dataclass, or what is made of dicts, lists, text and numbers."
        )


def _why(reason: BaseException) -> str:
    """Return the reason in a few words and without values: UTF-8's error quotes one character."""
    if isinstance(reason, RecursionError):
        return "it holds itself, or is nested too deep"
    if isinstance(reason, UnicodeError):
        return "text that is no UTF-8"
    return scrub(str(reason))[:200]


class ContextError(StreamError, LookupError):
    """A `Context("a.b")` found nothing and has no default.

    Attributes:
        name: the dotted name that was asked for.
        missing: the part of it that does not exist.
    """

    def __init__(self, name: str, missing: str) -> None:
        super().__init__(
            f"Context({name!r}) found no {missing!r}; set it with `router.context.set_global`, or give `default=`."
        )
        self.name = name
        self.missing = missing
