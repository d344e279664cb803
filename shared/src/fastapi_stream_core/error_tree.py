"""What hangs together with an error: what a group holds, and what led to it. Any shape ends, also a ring."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ("leaves_of", "led_to", "members_of", "tree_of")


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return what an exception group holds; nothing for any other error.

    Groups are known by their attribute: before Python 3.11 their class is somebody else's. An attribute that raises, as
    it may where an error hands on whatever it is asked, makes no group.
    """
    try:
        found = getattr(error, "exceptions", None)
    except Exception:
        return ()
    if not isinstance(found, tuple) or not all(isinstance(one, BaseException) for one in found):
        return ()
    return found


def led_to(error: BaseException) -> BaseException | None:
    """Return the error that a traceback shows before this one."""
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield what a group holds, at whatever depth; an error that is no group is its own leaf."""
    waiting, seen = [error], {id(error)}
    while waiting:
        one = waiting.pop()
        members = members_of(one)
        if not members:
            yield one
        fresh = [member for member in members if id(member) not in seen]
        seen.update(map(id, fresh))
        waiting += fresh


def tree_of(error: BaseException, hidden: bool = False) -> Iterator[BaseException]:
    """Yield an error, what it holds, what led to it, and so on.

    Args:
        error: the error.
        hidden: whether that includes what no traceback shows: a context behind a cause, or behind `from None`.
    """
    waiting, seen = [error], {id(error)}
    while waiting:
        one = waiting.pop()
        yield one
        before = (one.__cause__, one.__context__) if hidden else (led_to(one),)
        near = (*before, *members_of(one))
        fresh = [found for found in near if found is not None and id(found) not in seen]
        seen.update(map(id, fresh))
        waiting += fresh
