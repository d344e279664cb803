"""Patterns of topics: regular expressions in which `{name}` is one segment."""

from __future__ import annotations

import re

from fastapi_stream_core.address import Template
from fastapi_stream_core.errors import SetupError

__all__ = ("TopicPattern",)

_NAME = re.compile(r"\{([^\W\d]\w*)\}")
_PLAIN = re.compile(r"[\w.\-]*")


class TopicPattern:
    """The topics of a subscriber with `pattern=`.

    A pattern that is a topic's name with `{parameters}`, such as `users.{uid}`, matches that name with one segment
    without a dot for each of them. Everything else is a regular expression, in which `{name}` stands for
    a segment too, and which matches from the beginning of a topic's name.

    Attributes:
        text: the pattern as the user wrote it.
        names: the parameters, in order.
        regex: what the client looks for.
        is_template: whether the pattern is a name with parameters, and so an address of the document.

    Raises:
        SetupError: the pattern is no regular expression, or a parameter is there twice.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.names = tuple(_NAME.findall(text))
        self.is_template = bool(self.names) and _PLAIN.fullmatch(_NAME.sub("", text)) is not None
        source = Template(text).regex() + "$" if self.is_template else _NAME.sub(r"(?P<\1>[^.]+)", text)
        try:
            self.regex = re.compile(source)
        except re.error as error:
            raise SetupError(
                f"pattern={text!r}", f"it is no regular expression: {error}", "write one, or a name like 'users.{uid}'"
            ) from error

    def matches(self, topic: str) -> bool:
        """Tell whether a topic is meant."""
        return self.regex.match(topic) is not None

    def capture(self, topic: str) -> dict[str, str]:
        """Return the parameters that a topic gives."""
        found = self.regex.match(topic) if self.names else None
        return {} if found is None else {name: found[name] for name in self.names}
