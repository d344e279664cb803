"""Topics that were deleted and made again are noticed by their identities."""

from __future__ import annotations

from fastapi_stream_core.topic_identity import REMEMBERED, TopicIdentities, is_of_another


def test_a_new_identity_is_noticed_once() -> None:
    topics = TopicIdentities()
    assert topics.renewed({"a": "1", "b": None}) == set()
    topics.note({"a": "1", "b": None})
    assert topics.renewed({"a": "1", "b": None, "c": "9"}) == set()
    assert topics.renewed({"a": "2"}) == {"a"}
    assert topics.renewed({"a": "2"}) == {"a"}  # nothing is noted by looking
    topics.note({"a": "2"})
    assert (topics.renewed({"a": "2"}), topics.current("a"), topics.current("b")) == (set(), "2", None)


def test_a_server_that_lags_behind_is_not_believed() -> None:
    topics = TopicIdentities()
    for one in ("1", "2"):
        topics.note({"a": one})
    assert topics.renewed({"a": "1"}) == set()
    topics.note({"a": "1"})
    assert topics.current("a") == "2"


def test_the_memory_is_bounded() -> None:
    topics = TopicIdentities()
    for number in range(100):
        topics.note({"a": number})
    assert topics.current("a") == 99
    assert len(topics._seen["a"]) == REMEMBERED


def test_a_note_says_which_topic_it_is_of() -> None:
    identities = TopicIdentities()
    assert identities.note_of("orders") == ""
    identities.note({"orders": "a1"})
    first = identities.note_of("orders")
    assert not is_of_another(first, first)
    assert not is_of_another(f"{first}\x01 whatever lies behind it in memory", first)
    identities.note({"orders": "b2"})
    assert is_of_another(first, identities.note_of("orders"))
    assert is_of_another(f"{first}\x01", identities.note_of("orders"))
    assert not is_of_another("what an operator noted", identities.note_of("orders"))
    assert not is_of_another(first, "")
