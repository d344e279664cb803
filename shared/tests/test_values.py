"""The small values everything else is made of: addresses, headers, codec, options, policy, errors."""

from datetime import datetime, timezone
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi.exceptions import RequestValidationError
from fastapi_stream_core import (
    AckMessage,
    AckPolicy,
    BrokerUnavailable,
    DecodeError,
    EncodeError,
    Headers,
    NackMessage,
    PublishError,
    RejectMessage,
    Response,
    Retry,
    SetupError,
    SkipMessage,
    Template,
)
from fastapi_stream_core.address import Wildcard
from fastapi_stream_core.codec import _known_kind, decode, encode
from fastapi_stream_core.headers import header_pairs, text_name
from fastapi_stream_core.options import Option, SubscriberOptions, declared, resolve
from fastapi_stream_core.policy import Verdict, decide
from fastapi_stream_core.shown_address import without_credentials
from fastapi_stream_core.testing.reference import LocalRouter
from pydantic import BaseModel
from typing_extensions import TypedDict


class TestAddress:
    def test_a_parameter_is_one_segment(self) -> None:
        template = Template("users.{uid}.{kind}")
        assert template.names == ("uid", "kind")
        assert template.wildcard() == "users.*.*"
        assert template.match("users.7.new") == {"uid": "7", "kind": "new"}
        assert template.match("users.7") == {}
        assert template.match("users.7.8.9") == {}

    def test_wildcards_of_the_broker_and_literal_braces(self) -> None:
        assert Template("a.*.{x}", {"*": Wildcard.ONE}).match("a.b.c") == {"x": "c"}
        assert Template("a{{b}}.{x}").match("a{b}.c") == {"x": "c"}
        assert Template("a{{b}}").wildcard() == "a{b}"

    @pytest.mark.parametrize("text", ["a.{x}.{x}", "a.{}", "a.{not a name}"])
    def test_a_wrong_template_is_refused(self, text: str) -> None:
        with pytest.raises(SetupError, match="once"):
            Template(text)


class TestHeaders:
    def test_names_ignore_case_and_repeat(self) -> None:
        headers = Headers([("X-Tag", "a"), ("x-tag", "b"), ("Other", "c")])
        assert headers["X-TAG"] == "b"
        assert headers.getlist("x-TAG") == ["a", "b"]
        assert headers == {"x-tag": "b", "OTHER": "c"}
        assert len(headers) == 2

    def test_values_are_text_where_they_are_text(self) -> None:
        headers = Headers([("a", b"text"), ("b", b"\xff"), ("c", None)])
        assert (headers["a"], headers["b"], "c" in headers) == ("text", b"\xff", False)
        assert headers.text("b") is None

    def test_values_become_text_or_keep_their_type(self) -> None:
        now = datetime(2026, 1, 2, tzinfo=timezone.utc)
        given = {"n": 5, "b": True, "f": 1.5, "d": Decimal("1.5"), "t": now, "u": UUID(int=1), "x": bytearray(b"x")}
        plain = dict(header_pairs(given))
        assert (plain["n"], plain["b"], plain["f"], plain["d"]) == ("5", "True", "1.5", "1.5")
        assert (plain["t"], plain["u"], plain["x"]) == (str(now), str(UUID(int=1)), b"x")
        typed = dict(header_pairs(given, typed=True))
        assert typed == {**given, "u": str(UUID(int=1)), "x": b"x"}
        assert typed["b"] is True

    @pytest.mark.parametrize(
        "headers",
        [{3: "x"}, {"x": object()}, {"x": {"a": 1}}, {"x": ["a", print]}, {"x": "\ud800"}, {"\ud800": "x"}, ["x"]],
    )
    def test_what_no_header_can_hold_is_refused(self, headers: Any) -> None:
        with pytest.raises(PublishError, match="header"):
            header_pairs(headers, "orders")
        if isinstance(headers, dict) and "\ud800" not in headers and 3 not in headers:
            with pytest.raises(SetupError, match="header"):
                LocalRouter().publisher("orders", headers=headers)

    def test_names_that_are_no_text_are_read_all_the_same(self) -> None:
        name = text_name(b"caf\xe9-\xc3\xa9")
        assert name == "caf\\xe9-é"
        assert header_pairs({name: "x"}) == [(name, "x")]

    def test_lists_are_repeated_headers(self) -> None:
        assert header_pairs({"a": ["1", 2], "b": b"x", "c": None}) == [("a", "1"), ("a", "2"), ("b", b"x")]


class TestCodec:
    def test_values_to_bytes(self) -> None:
        class Model(BaseModel):
            a: int

        assert encode(None) == (b"", None)
        assert encode(b"\xff") == (b"\xff", None)
        assert encode("é") == ("é".encode(), "text/plain")
        assert encode(Model(a=1)) == (b'{"a":1}', "application/json")
        assert encode({"m": Model(a=1)}) == (b'{"m":{"a":1}}', "application/json")

    @pytest.mark.parametrize("value", [object(), {"a": object()}, "\ud800", {"a": "\ud800"}, {"a": b"\xff"}])
    def test_what_can_not_be_encoded_is_said(self, value: Any) -> None:
        with pytest.raises(EncodeError, match=f"a value of type {type(value).__name__} can't be encoded") as caught:
            encode(value)
        assert "publish bytes, text, a pydantic model" in str(caught.value)
        assert isinstance(caught.value, TypeError)

    @pytest.mark.parametrize("value", [Response(1), {"a": Response(1)}, [Response(1), Response(2)]])
    def test_a_response_is_the_whole_result(self, value: Any) -> None:
        """Inside another, or in a list, its attributes were published."""
        with pytest.raises(EncodeError, match="Response is the whole result, and no part of one"):
            encode(value)

    def test_what_holds_itself_is_said(self) -> None:
        class Node(BaseModel):
            next: Any = None

        listed: list[Any] = []
        listed.append(listed)
        keyed: dict[str, Any] = {}
        keyed["keyed"] = keyed
        node = Node()
        node.next = node
        for value in (listed, keyed, node):
            with pytest.raises(EncodeError, match=type(value).__name__):
                encode(value)

    def test_long_content_types_are_not_kept(self) -> None:
        before = _known_kind.cache_info().currsize
        for number in range(100):
            assert decode(b"x", f"text/plain; {'x' * 10_000}{number}") == "x"
        assert _known_kind.cache_info().currsize == before

    def test_empty_text_is_no_null(self) -> None:
        assert decode(b"", "text/plain; charset=utf-8") == ""
        assert decode(b"", "TEXT/PLAIN") == ""
        assert decode(b"", None) is decode(b"", "application/json") is decode(b"", "image/png") is None

    def test_bytes_to_values(self) -> None:
        assert decode(b'{"a":1}', "application/json; charset=utf-8") == {"a": 1}
        assert decode(b'{"a":1}', "application/cloudevents+json") == {"a": 1}
        assert decode(b"1", "text/plain") == "1"
        assert decode(b"1", None) == 1
        assert decode(b"\xff", None) == b"\xff"
        assert decode(b"x", "image/png") == b"x"
        assert decode(b"", "application/json") is None
        assert decode(b"\xef\xbb\xbf1", "application/json") == 1

    @pytest.mark.parametrize(
        ("body", "kind"), [(b"{", "application/json"), (b"\xff", "text/plain"), (b"[" * 9999, "a/b+json")]
    )
    def test_what_is_not_what_it_says(self, body: bytes, kind: str) -> None:
        with pytest.raises(DecodeError, match=str(len(body))) as caught:
            decode(body, kind)
        assert (caught.value.content_type, caught.value.size) == (kind, len(body))


class TestOptions:
    def test_every_option_has_a_default_and_a_meaning(self) -> None:
        for name, option in declared(SubscriberOptions).items():
            assert option.meaning, name
        resolved = resolve(SubscriberOptions, {"no_reply": True}, "subscriber('a')")
        assert resolved["no_reply"] is True
        assert resolved["ack_policy"] is AckPolicy.NACK_ON_ERROR

    def test_an_unknown_option_names_the_one_that_was_meant(self) -> None:
        with pytest.raises(SetupError, match=r"subscriber\('a'\).*'max_worker'.*'max_workers'"):
            resolve(SubscriberOptions, {"max_worker": 1}, "subscriber('a')")

    def test_a_declaration_without_option_is_refused(self) -> None:
        class Wrong(TypedDict, total=False):
            good: Annotated[int, Option(1, "one")]
            bad: int

        with pytest.raises(SetupError, match="bad"):
            declared(Wrong)


class TestPolicy:
    def test_retries_end(self) -> None:
        retry = Retry()
        for attempt in range(1, 5):
            decision = decide(ValueError(), attempt, AckPolicy.NACK_ON_ERROR, retry)
            assert (decision.verdict, decision.final) == (Verdict.NACK, False)
            assert 0.2 <= decision.delay <= 30 * 1.2
        assert decide(ValueError(), 5, AckPolicy.NACK_ON_ERROR, retry).verdict is Verdict.REJECT

    def test_the_delay_grows_to_its_bound(self) -> None:
        retry = Retry(jitter=0)
        assert [round(retry.after(attempt), 3) for attempt in (1, 2, 3, 100)] == [0.2, 0.4, 0.8, 30.0]

    @pytest.mark.parametrize("error", [DecodeError(None, 1, ValueError()), RequestValidationError([])])
    def test_what_is_invalid_is_never_tried_again(self, error: Exception) -> None:
        for policy in (AckPolicy.NACK_ON_ERROR, AckPolicy.REJECT_ON_ERROR):
            assert decide(error, 1, policy, Retry()).verdict is Verdict.REJECT

    def test_policies(self) -> None:
        retry = Retry()
        assert decide(ValueError(), 1, AckPolicy.ACK, retry).verdict is Verdict.ACK
        assert decide(ValueError(), 1, AckPolicy.REJECT_ON_ERROR, retry).verdict is Verdict.REJECT
        assert decide(ValueError(), 1, AckPolicy.MANUAL, retry).verdict is None
        assert decide(SystemExit(), 1, AckPolicy.ACK, retry).verdict is Verdict.NACK

    def test_exceptions_that_settle_are_no_failures(self) -> None:
        for error, verdict in (
            (AckMessage(), Verdict.ACK),
            (SkipMessage(), Verdict.ACK),
            (RejectMessage(), Verdict.REJECT),
            (NackMessage(delay=3), Verdict.NACK),
        ):
            decision = decide(error, 9, AckPolicy.MANUAL, Retry())
            assert (decision.verdict, decision.failed) == (verdict, False)
        assert decide(NackMessage(delay=3), 9, AckPolicy.ACK, Retry()).delay == 3


class TestErrors:
    def test_credentials_are_never_shown(self) -> None:
        assert without_credentials("amqp://u:p@ss@host:1/v") == "amqp://host:1/v"
        assert without_credentials("u:p@host:1") == "host:1"
        assert without_credentials("host:1") == "host:1"
        error = BrokerUnavailable("nats://u:secret@a:1, nats://b:2", "connect", 10.0, OSError("refused"))
        assert "secret" not in str(error)
        assert "nats://a:1, nats://b:2" in str(error)
        assert (error.operation, error.seconds) == ("connect", 10.0)
