"""What of an address is shown: nothing that may be a credential, whatever is wrong with the address."""

import time
import traceback

import pytest
from fastapi_stream_core import BrokerUnavailable, PublishError
from fastapi_stream_core.shown_address import HIDDEN, clean_cause, scrub, without_credentials
from fastapi_stream_core.testing.conformance.secrets import ODD_ADDRESSES, PIECES, TOKEN_ADDRESSES


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("amqp://u:p@ss@host:1/v", "amqp://host:1/v"),
        ("u:p@host:1", "host:1"),
        ("host:1", "host:1"),
        ("localhost", "localhost"),
        ("a:9092,b:9092", "a:9092,b:9092"),
        ("nats://localhost:4222, tls://x:1", "nats://localhost:4222, tls://x:1"),
        ("amqp://u:p@h1,amqp://u:p@h2:1/v", "amqp://h1,amqp://h2:1/v"),
        ("redis:/u:p@h", "h"),
        ("redis//u:p@h:1", "h:1"),
        ("nats://h:1?token=p", "nats://h:1"),
        ("redis://h/0?password=p#x", "redis://h/0"),
        ("redis://u:p@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("unix://u:p@/tmp/redis.sock?db=1", "unix:///tmp/redis.sock"),
        ("amqp://u:p@h/%2f", "amqp://h/%2f"),
        ("{host}:{port}", "{host}:{port}"),
        ("", ""),
        ("redis://h/0?password=a@p", HIDDEN),
        ("amqp://u:pass", HIDDEN),
        ("amqp://u%3Ap%40h", HIDDEN),
        ("nats://host:port", HIDDEN),
        ("host=h password=p", f"{HIDDEN} {HIDDEN}"),
        ("x" * 20_000, HIDDEN),
        (None, HIDDEN),
        (b"amqp://u:p@h", HIDDEN),
    ],
)
def test_what_is_shown_of_an_address(address: object, shown: str) -> None:
    assert without_credentials(address) == shown


@pytest.mark.parametrize("scheme", ["amqp", "redis+tls", "nats"])
@pytest.mark.parametrize("odd", ODD_ADDRESSES + TOKEN_ADDRESSES)
def test_no_odd_address_shows_its_secret(odd: str, scheme: str) -> None:
    address = odd.format(scheme=scheme)
    shown = without_credentials(address)
    assert not [piece for piece in PIECES if piece in shown], shown
    for text in (address, f"can't connect to {address!r}", f"{address}: no such host\nit was <{address}>"):
        error = BrokerUnavailable(address, "connect", 0, OSError(text))
        seen = f"{error} {error!r} {vars(error)}"
        assert not [piece for piece in PIECES if piece in seen], seen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Cannot connect to 'amqp://u:s3 cret@h:1'", "Cannot connect to 'amqp://***@h:1'"),
        ("bad redis:/u:s3cret@h and http://x", "bad redis:/***@h and http://x"),
        ("no port in amqp://u:s3cret", "no port in amqp://***"),
        ("dial u:s3cret@host failed", "dial ***@host failed"),
        ("Invalid 'u:s3 cret@host'", "Invalid '***@host'"),
        ("{'password': 's3cret', 'sasl.password': 's3'}", "{'password': ***, 'sasl.password': ***}"),
        ("x?token=s3cret&b=1", "x?token=***&b=1"),
        ("password: s3cret, user: ann", "password: ***, user: ann"),
        ("login failed (Token:s3cret)", "login failed (Token:***)"),
        ("auth=s3cret user_creds=/s3cret.creds", "auth=*** user_creds=***"),
        ("Authorization: Bearer s3cret", "Authorization: ***"),
        ("ssl.key.password = b's3 cret'", "ssl.key.password = ***"),
        ("'auth': \"s3 cret\"", "'auth': ***"),
        ("invalid token: s3cret at 3", "invalid token: *** at 3"),
        ("amqp://u:s3cret@h1\nnext nats://u:s3cret@h", "amqp://***@h1\nnext nats://***@h"),
        # What is no credential stays.
        ("Connect call failed ('127.0.0.1', 6379)", "Connect call failed ('127.0.0.1', 6379)"),
        ("tcp://[::1]:80, http://h:80/x, https://h:443", "tcp://[::1]:80, http://h:80/x, https://h:443"),
        ("invalid token, expected a colon", "invalid token, expected a colon"),
        ("authentication failed: no such user", "authentication failed: no such user"),
    ],
)
def test_what_a_client_says_is_shown_without_credentials(text: str, shown: str) -> None:
    assert scrub(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "://a/" * 30_000,
        "://a?" * 30_000,
        "x:" * 50_000,
        "://" * 50_000,
        "://a:" * 30_000,
        "@" * 90_000,
        "'@ " * 30_000,
        "password=" * 20_000,
        "a@b c " * 9999,
    ],
)
def test_long_texts_are_read_in_linear_time(text: str) -> None:
    begin = time.process_time()
    scrub(text)
    without_credentials(text)
    assert time.process_time() - begin < 1


def test_a_cause_that_quotes_credentials_is_replaced() -> None:
    def fail(text: str) -> BrokerUnavailable:
        try:
            try:
                raise OSError(text)
            except OSError as error:
                raise RuntimeError("no connection") from error
        except RuntimeError as error:
            with pytest.raises(BrokerUnavailable) as caught:
                raise BrokerUnavailable("h", "connect", 1, error) from clean_cause(error)
            return caught.value

    assert isinstance(fail("refused").__cause__, RuntimeError)
    shown = "".join(traceback.format_exception(fail("amqp://u:s3cret@h refused")))
    assert "s3cret" not in shown
    assert "RuntimeError: no connection" in shown


def test_errors_bound_what_a_client_says() -> None:
    assert len(str(PublishError("a", "x" * 100_000))) < 1500
    assert len(str(BrokerUnavailable("h", "connect", 1, OSError("x" * 100_000)))) < 1500
