"""Address templates: what they take, and that a sender can't make them slow."""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from fastapi_stream_core import SetupError, Template
from fastapi_stream_core.address import Wildcard

WILDCARDS = {"*": Wildcard.ONE, ">": Wildcard.SOME, "#": Wildcard.ANY}


def by_backtracking(template: Sequence[str], address: Sequence[str]) -> Iterator[list[str]]:
    """Yield the parameters of every way in which segments match, the greediest one first."""
    if not template:
        if not address:
            yield []
        return
    one, rest = template[0], template[1:]
    if one in (">", "#"):
        for taken in range(len(address), -1 if one == "#" else 0, -1):
            yield from by_backtracking(rest, address[taken:])
    elif address:
        expression = "[^.]*" if one == "*" else re.sub(r"\\\{\w+\\\}", "([^.]+)", re.escape(one))
        found = re.fullmatch(expression, address[0], re.DOTALL)
        if found:
            for values in by_backtracking(rest, address[1:]):
                yield [*found.groups(), *values]


def text_of(chosen: random.Random, parts: Sequence[str], most: int) -> str:
    return "".join(chosen.choice(parts) for _ in range(chosen.randint(1, most)))


def named(text: str) -> str:
    """Return a template with a name of its own for each parameter."""
    first, *others = text.split("{}")
    return first + "".join(f"{{p{number}}}{other}" for number, other in enumerate(others))


def test_it_matches_what_a_backtracking_expression_matches() -> None:
    chosen = random.Random(7)
    matched = 0
    for _ in range(20_000):
        segments = []
        for _ in range(chosen.randint(1, 4)):
            wild = chosen.random() < 0.25
            segments.append(chosen.choice("*>#") if wild else text_of(chosen, ("a", "-", "b", "{}", "{}"), 5))
        template = named(".".join(segments))
        address = ".".join(text_of(chosen, ("a", "-", "b", "\n"), 6) for _ in range(chosen.randint(1, 5)))
        expected = next(by_backtracking(template.split("."), address.split(".")), None)
        got = Template(template, WILDCARDS).match(address)
        assert list(got.values()) == (expected or []), (template, address)
        assert list(got) == ([f"p{number}" for number in range(len(expected))] if expected else [])
        matched += bool(got)
    assert matched > 300


def test_its_expression_finds_the_same() -> None:
    chosen = random.Random(8)
    for _ in range(20_000):
        template = Template(named("{}" + text_of(chosen, ("a", "-", ".", "{}"), 8)))
        address = text_of(chosen, ("a", "-", "."), 12)
        assert bool(re.fullmatch(template.regex(), address)) == bool(template.match(address)), (template.text, address)


SHAPES = {
    "parts": ("-".join(f"{{p{number}}}" for number in range(20)) + "!", "-"),
    "touching": ("".join(f"{{p{number}}}" for number in range(20)) + "!", "a"),
    "words": (".".join(f"{{p{number}}}" for number in range(20)), "."),
    "same letter": ("a".join(f"{{p{number}}}" for number in range(20)) + "!", "a"),
    "one": ("x.{p}.y", "x."),
}


def seconds(call: Callable[[str], object], text: str) -> float:
    """Return the shortest time of several calls, since whatever else runs makes one only longer."""
    call(text)
    times = []
    for _ in range(5):
        begin = time.process_time()
        call(text)
        times.append(time.process_time() - begin)
    return min(times)


def assert_linear(call: Callable[[str], object], filling: str, size: int) -> None:
    """Hold that eight times the text takes far less than the 64 times longer of quadratic growth."""
    short, long = filling * (size // len(filling)), filling * (8 * size // len(filling))
    assert seconds(call, long) < 30 * max(seconds(call, short), 1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_time_grows_only_linearly(shape: str) -> None:
    text, own = SHAPES[shape]
    template = Template(text, WILDCARDS)
    for filling in (own, "ab-", "a", ".-a"):
        assert_linear(template.match, filling, 7_500)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_expression_is_fast_for_every_name_of_a_topic(shape: str) -> None:
    text, own = SHAPES[shape]
    expression = re.compile(Template(text).regex() + "$")
    for filling in (own, "ab-", "a", ".-a"):
        assert_linear(expression.match, filling, 31)  # the longest name has 249 characters


@pytest.mark.parametrize("text", ["a.{x}.{x}", "a.{}", "a.{not a name}"])
def test_a_wrong_template_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="once"):
        Template(text)


@pytest.mark.parametrize("text", ["users.{uid", "users.uid}", "a.{b}.c{", "{a}}", "{{a}"])
def test_a_brace_without_a_partner_is_refused(text: str) -> None:
    """It would be part of an address that nobody publishes to."""
    with pytest.raises(SetupError, match="has no partner; write parameters as in"):
        Template(text)


def test_braces_that_are_meant() -> None:
    template = Template("{{a}}.{b}")
    assert template.wildcard() == "{a}.*"
    assert template.match("{a}.c") == {"b": "c"}
