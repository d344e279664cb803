"""Test brokers, and the conformance suite that every package passes."""

from .broker import TestBroker

__all__ = ("TestBroker",)
