"""Ids of messages."""

from __future__ import annotations

import random
from uuid import UUID

from fastapi_stream_core.identifier import new_id


def test_ids_are_random_uuids_of_version_4() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    for text in ids:
        one = UUID(text)
        assert (str(one), one.version, one.variant) == (text, 4, UUID("3c5bb1b8-f5a2-4c3e-8d5c-0f3f0a3a3c11").variant)


def test_a_seed_of_the_application_repeats_no_ids() -> None:
    random.seed(1)
    first = new_id()
    random.seed(1)
    assert new_id() != first
