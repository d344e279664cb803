"""The addresses of direct reply-to: a client that waits for an answer without a queue has one, made by RabbitMQ.

RabbitMQ reads a process identifier out of them, and ends the connection of who publishes to one that it can't read
(RabbitMQ 4, INTERNAL_ERROR). So what a sender calls an inbox is looked at first.
"""

from __future__ import annotations

import base64
import binascii

__all__ = ("has_form_of_inbox", "is_inbox")

BEGIN = "amq.rabbitmq.reply-to."
VERSION = 131
"""How a term begins in Erlang's external format."""
PIDS = {88: 12, 103: 9}
"""Bytes behind the name of the node, for each form of a process identifier."""
ATOMS = {118: 2, 100: 2, 119: 1, 115: 1}
"""Bytes of the length of a name, for each form of an atom."""


def has_form_of_inbox(address: str) -> bool:
    """Tell whether RabbitMQ would take an address for one of direct reply-to, right or wrong."""
    return address.startswith(BEGIN) and "|" not in address


def is_inbox(address: str) -> bool:
    """Tell whether an address is one of direct reply-to, as RabbitMQ makes them: a process identifier and a key."""
    if not has_form_of_inbox(address):
        return False
    encoded, dot, key = address[len(BEGIN) :].partition(".")
    try:
        term = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(dot and key and "." not in key) and _is_process(term)


def _is_process(term: bytes) -> bool:
    if len(term) < 4 or term[0] != VERSION or term[1] not in PIDS or term[2] not in ATOMS:
        return False
    begin = 3 + ATOMS[term[2]]
    size = int.from_bytes(term[3:begin], "big")
    try:
        term[begin : begin + size].decode()
    except UnicodeDecodeError:
        return False
    return size > 0 and len(term) == begin + size + PIDS[term[1]]
