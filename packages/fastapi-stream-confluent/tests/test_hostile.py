"""Records that a sender made to hurt: they fail alone at most, and their neighbours and the commits go on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

READER = Path(__file__).with_name("hostile_reader.py")


@pytest.mark.parametrize("seed", range(4))
async def test_hostile_records_are_read_and_committed(seed: int) -> None:
    path = os.pathsep.join(one for one in sys.path if one)
    reader = await asyncio.create_subprocess_exec(
        sys.executable,
        str(READER),
        str(seed),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"},
    )
    out, errors = await asyncio.wait_for(reader.communicate(), 60)
    assert reader.returncode == 0, errors.decode(errors="replace")[-3000:]
    assert json.loads(out) == {"handled": 200, "committed": [50, 50, 50, 50]}
