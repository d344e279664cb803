"""What is given up while the client library is waited for leaves nothing behind."""

import asyncio
import gc
from contextlib import suppress

import pytest
from fastapi_stream_rabbit.cancellation import uncancelled


@pytest.mark.parametrize("at_once", [True, False], ids=["with the cancellation", "because of it"])
async def test_an_error_beside_a_cancellation_is_not_logged_as_lost(at_once: bool) -> None:
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: lost.append(context))
    begun, failed = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        with suppress(asyncio.CancelledError):
            await failed.wait()
        raise ConnectionError("gone")

    waiting = asyncio.ensure_future(uncancelled(work()))
    await begun.wait()
    if at_once:
        failed.set()
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    del waiting
    gc.collect()
    await asyncio.sleep(0)
    assert not lost, lost
