"""A group and the names of its consumers: no two processes may have the same one, and none is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from .history import facts_of
from .reading import order

if TYPE_CHECKING:
    from .connection import Link

__all__ = (
    "Moments",
    "deliveries_after",
    "find_group",
    "forget_leftovers",
    "holder_of",
    "make_group",
    "own_name",
    "set_group_back",
)

Moments = Mapping[bytes, float]
"""When entries were delivered, on the loop's clock."""
OWN_NAME = re.compile(rb".*-\d+-[0-9a-f]{8}", re.DOTALL)
LEFTOVER_MILLISECONDS = 600_000
"""A consumer that runs asks Redis every two seconds. One that has not for so long, and has nothing, is gone."""

SET_BACK = """
local function padded(id)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #time) .. time .. string.rep('0', 20 - #number) .. number
end
local stream = redis.call('XINFO', 'STREAM', KEYS[1])
for at = 1, #stream, 2 do
  if stream[at] == 'last-generated-id' and padded(stream[at + 1]) >= padded(ARGV[2]) then
    return 0
  end
end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local known = {}
  for at = 1, #group, 2 do known[group[at]] = group[at + 1] end
  if known['name'] == ARGV[1] and known['last-delivered-id'] == ARGV[2] then
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[3])
    return 1
  end
end
return 0"""
"""Sets a group back that delivered a certain entry last, which its stream never had: of its consumers only one does."""


async def find_group(link: Link, key: str, group: str) -> dict[bytes, Any] | None:
    """Return what Redis says of a group; None when there is none. A server without memory answers that, too."""
    try:
        groups = await link.call("XINFO", "GROUPS", key)
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return None
    known = [dict(zip(one[::2], one[1::2], strict=True)) for one in groups]
    return next((one for one in known if one[b"name"] == group.encode()), None)


async def deliveries_after(link: Link, place: tuple[str, str, str], after: bytes, count: int) -> Moments:
    """Return when what a consumer has behind an entry was delivered to it, on the loop's clock, at the earliest.

    What a failover made pending again was delivered before it was acknowledged. What a group that was set back gave
    to a connection that got lost was delivered after that, and nobody has handled it. Reading an entry makes that now.

    Args:
        link: the connection.
        place: stream, group and consumer.
        after: an entry.
        count: most entries.
    """
    key, group, consumer = place
    now = asyncio.get_running_loop().time()
    begin = b"-" if after == b"0" else b"(" + after
    (pending,) = await link.ask_all([("XPENDING", key, group, begin, "+", count, consumer)])
    return {} if isinstance(pending, Exception) else {one[0]: now - one[2] / 1000 for one in pending}


async def make_group(link: Link, key: str, group: str, first: str | bytes) -> bool:
    """Make a group for what comes after `first`, with the stream if there is none; tell whether it was not there."""
    try:
        await link.call("XGROUP", "CREATE", key, group, first, "MKSTREAM")
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
        return False
    return True


async def set_group_back(link: Link, key: str, group: str, waits_for: bytes, after: bytes) -> bool:
    """Have a group that is ahead of its stream deliver what comes after `after`; tell whether that was to be done.

    Args:
        link: the connection.
        key: the stream.
        group: its name.
        waits_for: what it delivered last, as far as is known. When another consumer has set it back, that stays.
        after: an entry.
    """
    try:
        return bool(await link.call("EVAL", SET_BACK, 1, key, group, waits_for, after))
    except ResponseError:
        # A server before Redis 7, or one that lets us run no script: two consumers may set it back then.
        known, facts = await find_group(link, key, group), await facts_of(link, key)
        if known is None or known[b"last-delivered-id"] != waits_for:
            return False
        if facts is None or order(facts.last) >= order(waits_for):
            return False
        await link.call("XGROUP", "SETID", key, group, after)
        return True


def own_name() -> str:
    """Return a name that no other consumer has: host, process and eight random digits."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


async def holder_of(link: Link, place: tuple[str, ...], token: str) -> str | None:
    """Tell Redis that this connection is the consumer at `place`, and return the address of another one that is.

    Of two that begin at the same time the older connection stays. A server before Redis 7.2, or one that does not
    let us list its clients, knows nobody.

    Args:
        link: the connection.
        place: database, stream, group and name.
        token: what tells connections of this consumer from those of others.
    """
    digest = blake2b("\0".join(place).encode(), digest_size=8).hexdigest()
    mark = f"fastapi-stream({digest}:"
    try:
        number = await link.call("CLIENT", "ID")
        await link.call("CLIENT", "SETINFO", "LIB-NAME", f"{mark}{token})")
        clients: bytes = await link.call("CLIENT", "LIST", "TYPE", "normal")
    except ResponseError:
        return None
    for line in clients.decode(errors="replace").splitlines():
        pairs = [one.partition("=") for one in line.split(" ")]
        facts: dict[str, str] = {key: value for key, _, value in pairs}
        name = facts.get("lib-name", "")
        if name.startswith(mark) and not name.endswith(f":{token})") and int(facts["id"]) < number:
            await link.call("CLIENT", "SETINFO", "LIB-NAME", "fastapi-stream")
            return facts.get("addr", "")
    return None


async def forget_leftovers(link: Link, key: str, group: str) -> None:
    """Delete consumers with names of `own_name` whose process is gone and that have nothing pending."""
    await link.send((("WATCH", key), ("XINFO", "CONSUMERS", key, group)))
    watched, consumers = await link.replies(2, link.answer_seconds)
    if isinstance(watched, Exception) or isinstance(consumers, Exception):
        return
    known = [dict(zip(one[::2], one[1::2], strict=True)) for one in consumers]
    gone = [
        one[b"name"]
        for one in known
        if not one[b"pending"] and one[b"idle"] > LEFTOVER_MILLISECONDS and OWN_NAME.fullmatch(one[b"name"])
    ]
    # When something happens to the stream in the meantime, nothing is deleted: the next consumer that starts does it.
    commands = [("MULTI",), *(("XGROUP", "DELCONSUMER", key, group, name) for name in gone), ("EXEC",)]
    await link.send(commands if gone else (("UNWATCH",),))
    await link.replies(len(commands) if gone else 1, link.answer_seconds)
