"""No password is shown: the same odd addresses and client's errors for every broker."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ...asyncapi.specification import AsyncAPI
from ...broker import Broker
from ...errors import StreamError

__all__ = ("ODD_ADDRESSES", "PIECES", "SECRET", "TOKEN_ADDRESSES", "assert_hidden")

SECRET = "s3cretpass"
PIECES = ("s3cret", "cretpass", "tpass", "s3c")
"""Parts of the secret that may be left when it is cut at a character."""

ODD_ADDRESSES = (
    # Right.
    "{scheme}://ann:s3cretpass@127.0.0.1:1",
    "{scheme}://ann:s3cretpass@127.0.0.1:1/0",
    "{scheme}://:s3cretpass@127.0.0.1:1",
    "{scheme}://ann:s3cretpass@[::1]:1",
    "{scheme}://ann:s3cret%40pass@127.0.0.1:1",
    # Several in one text.
    "{scheme}://ann:s3cretpass@127.0.0.1:1,{scheme}://ann:s3cretpass@127.0.0.1:2",
    "{scheme}://ann:s3cretpass@127.0.0.1:1, {scheme}://127.0.0.1:2",
    "{scheme}://127.0.0.1:1;{scheme}://ann:s3cretpass@127.0.0.1:2",
    "{scheme}://127.0.0.1:1 ann:s3cretpass@127.0.0.1:2",
    # The scheme is missing or mistyped.
    "ann:s3cretpass@127.0.0.1:1",
    "//ann:s3cretpass@127.0.0.1:1",
    "{scheme}:/ann:s3cretpass@127.0.0.1:1",
    "{scheme}:ann:s3cretpass@127.0.0.1:1",
    "{scheme}//ann:s3cretpass@127.0.0.1:1",
    "{scheme}:///ann:s3cretpass@127.0.0.1:1",
    "{scheme}:\\\\ann:s3cretpass@127.0.0.1:1",
    "http://ann:s3cretpass@127.0.0.1:1",
    "jdbc:{scheme}://ann:s3cretpass@127.0.0.1:1",
    # Characters that had to be escaped.
    "{scheme}://ann:s3cret@pass@127.0.0.1:1",
    "{scheme}://ann:s3cret:pass@127.0.0.1:1",
    "{scheme}://ann:s3cret/pass@127.0.0.1:1",
    "{scheme}://ann:s3cret?pass@127.0.0.1:1",
    "{scheme}://ann:s3cret#pass@127.0.0.1:1",
    "{scheme}://ann:s3cret,pass@127.0.0.1:1",
    "{scheme}://ann:s3cret pass@127.0.0.1:1",
    "{scheme}://ann:s3cret;pass@127.0.0.1:1",
    "{scheme}://ann:s3cret[pass@127.0.0.1:1",
    "{scheme}://ann:s3cret]pass@127.0.0.1:1",
    "{scheme}://ann:s3cret\\pass@127.0.0.1:1",
    "{scheme}://ann:s3cret%pass@127.0.0.1:1",
    "{scheme}://ann:s3cret\x00pass@127.0.0.1:1",
    "{scheme}://ann:s3cret\npass@127.0.0.1:1",
    "ann:s3cret@pass@127.0.0.1:1",
    "ann:s3cret:pass@127.0.0.1:1",
    # Something is missing or wrong behind the password.
    "{scheme}://ann:s3cretpass@",
    "{scheme}://ann:s3cretpass",
    "{scheme}://ann:s3cretpass@127.0.0.1:port",
    "{scheme}://ann:s3cretpass@127.0.0.1:99999",
    "{scheme}://ann%3As3cretpass%40127.0.0.1",
    # In the query and in the fragment.
    "{scheme}://127.0.0.1:1?token=s3cretpass",
    "{scheme}://127.0.0.1:1?password=s3cretpass&db=1",
    "{scheme}://127.0.0.1:1?password=a@s3cretpass",
    "{scheme}://127.0.0.1:1/0#s3cretpass",
)
"""Addresses with credentials, right and wrong, for any scheme: `.format(scheme="redis")`."""

TOKEN_ADDRESSES = ("{scheme}://s3cretpass@127.0.0.1:1", "s3cretpass@127.0.0.1:1")
"""The same for brokers where a token stands in the place of a user."""


async def assert_hidden(
    make: Callable[..., Broker], scheme: str, caplog: pytest.LogCaptureFixture, odd: str, **options: Any
) -> None:
    """Hold that no part of a password is seen, whatever the broker makes of an address.

    Args:
        make: makes the broker, from an address and options.
        scheme: of the broker's addresses.
        caplog: of pytest.
        odd: one of `ODD_ADDRESSES`, or of `TOKEN_ADDRESSES`.
        options: of the broker.
    """
    address = odd.format(scheme=scheme)
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    try:
        broker = make(address, startup_timeout=0.3, **options)
        broker.publisher("orders")  # type: ignore[attr-defined]
        assert repr(broker) == f"{type(broker).__name__}({broker.address!r})"
        seen += [broker.address, repr(broker), repr(public(broker)), repr(broker.servers())]
        seen.append(json.dumps(AsyncAPI(broker).to_specification().to_jsonable()))
        async with broker:
            pass
    except StreamError as error:
        seen += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
    seen += [record.getMessage() for record in caplog.records]
    seen += [str(record.exc_text) for record in caplog.records]
    shown = "\n".join(seen)
    assert not [piece for piece in PIECES if piece in shown], shown


def public(thing: object) -> Mapping[str, object]:
    """Return the attributes of an object that anybody may look at."""
    return {name: value for name, value in vars(thing).items() if not name.startswith("_")}
