"""Test brokers, and the conformance suite that every package passes."""

from .broker import TestBroker
from .features import Features

__all__ = ("Features", "TestBroker")
