"""Conformance: a value that no client can hold is refused where it is declared."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest

from ...errors import SetupError
from ...options import check_given, declared
from .harness import Harness

__all__ = ("DeclarationSuite",)

NO_NUMBERS = (Decimal(5), Fraction(5, 2), math.inf, -math.inf, math.nan, 1e300, 10**30)
MAY_BE_EMPTY = {"description"}
ANYTHING = {"response_model", "schema"}
"""Options whose type is not that of their declaration; they are checked elsewhere."""


class DeclarationSuite:
    """A part of `LifeSuite`."""

    def test_every_number_of_a_broker_is_one_that_its_client_can_hold(self, harness: Harness) -> None:
        names = declared(harness.router().broker.declaration)
        for value in NO_NUMBERS:
            for name in names:
                with pytest.raises(SetupError, match=f"{name}=|is outside allowed range"):  # that of librdkafka
                    harness.router(**{name: value})

    def test_every_name_of_a_broker_has_letters(self, harness: Harness) -> None:
        for name in declared(harness.router().broker.declaration).keys() - MAY_BE_EMPTY:
            with pytest.raises(SetupError, match=name):
                harness.router(**{name: ""})

    def test_every_number_of_subscribers_and_publishers_is_one_that_the_client_can_hold(self, harness: Harness) -> None:
        router = harness.router()
        for declaration in (
            harness.subscribe(router, harness.address()).declaration,
            harness.publisher(router, harness.address()).declaration,
        ):
            for name in declared(declaration).keys() - ANYTHING:
                for value in NO_NUMBERS:
                    with pytest.raises(SetupError, match=f"it: {name}="):
                        check_given(declaration, {name: value}, "it")
