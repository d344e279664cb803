"""The AsyncAPI document of an app, and the page that shows it."""

from __future__ import annotations

from .description import ChannelDescription, ServerDescription
from .specification import AsyncAPI, Specification

__all__ = ("AsyncAPI", "ChannelDescription", "ServerDescription", "Specification")
