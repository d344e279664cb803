"""What the benchmarks conclude from their figures: a gate that is missed, and a run that gave none, are seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import from the folder of the benchmarks as their command does, and leave none of its modules behind."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def table_of(bound: Any, **rounds: list[float]) -> Any:
    from table import Figure, Row, Table

    taken = {variant: {"us": figures} for variant, figures in rounds.items()}
    return Table("consume: everything", (Figure("us", "us", spread=True),), rows=[Row("kafka", taken, [bound])])


@pytest.mark.parametrize(
    ("ours", "state"), [([10.0, 11.0, 30.0], "missed"), ([9.0, 8.0, 30.0], "held"), ([5.0, 4.0], "goal reached")]
)
def test_the_medians_decide_about_a_gate(ours: list[float], state: str) -> None:
    from table import Bound

    table = table_of(Bound("raw", "ours", 0.4, 0.6), raw=[4.0, 4.0, 4.0], ours=ours)
    (compared,) = table.record()["rows"][0]["compared"]
    assert compared["state"] == state
    assert bool(table.missed()) == (state == "missed")


@pytest.mark.parametrize(("ours", "state"), [(5.5, "missed"), (4.9, "held"), (4.2, "goal reached")])
def test_a_difference_has_an_upper_limit(ours: float, state: str) -> None:
    from table import Bound

    table = table_of(Bound("ours", "raw", 1.0, 0.3, how="difference", at_most=True), raw=[4.0], ours=[ours])
    assert table.record()["rows"][0]["compared"][0]["state"] == state


def test_a_missing_variant_is_no_gate_and_an_error_is_a_miss() -> None:
    from table import Bound

    table = table_of(Bound("peer", "ours", 7), ours=[4.0])
    assert table.missed() == []
    table.rows[0].error = "no figures"
    assert table.missed() == ["consume, kafka: no figures"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise RuntimeError('99 handler calls for 100 messages')", "99 handler calls for 100 messages"),
        ("print('nothing')", "exit status 0"),
        ("import threading; threading.Event().wait()", "not over within 0.5 s"),
    ],
)
def test_a_run_without_figures_is_an_error(tmp_path: Path, program: str, reason: str) -> None:
    from process import RunFailed, run_child

    script = tmp_path / "run.py"
    script.write_text(program)
    with pytest.raises(RunFailed, match=reason):
        run_child(script, timeout_seconds=0.5 if "Event" in program else 30)


def test_a_child_says_when_it_listens_and_what_it_found(tmp_path: Path) -> None:
    from process import run_child

    script = tmp_path / "run.py"
    script.write_text("""print('{"ready": true}', flush=True); print('{"result": {"us": 1.5}}')""")
    called: list[bool] = []
    assert run_child(script, on_ready=lambda: called.append(True)) == {"us": 1.5}
    assert called == [True]


def test_variants_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    from process import alternate

    order: list[str] = []

    def run(name: str) -> dict[str, float]:
        order.append(name)
        return {"us": float(len(order))}

    taken = alternate("row", {"a": lambda: run("a"), "b": lambda: run("b")}, 2)
    assert order == ["a", "b", "b", "a"]
    assert taken == {"a": {"us": [1.0, 4.0]}, "b": {"us": [2.0, 3.0]}}
    assert "row: 2 rounds" in capsys.readouterr().err


@pytest.mark.parametrize("publish", [False, True])
async def test_our_side_handles_every_record_in_process(publish: bool) -> None:
    from ours import Ours
    from records import BODY

    handled: list[int] = []

    async def handle(order: dict[str, Any]) -> dict[str, Any]:
        handled.append(order["id"])
        return order

    ours = Ours(handle, BODY, publish=publish)
    async with ours:
        ours.prepare(1000)
        await ours.run(1000)
        assert ours.sent == (1000 if publish else 0)
    assert handled == [17] * 1000
