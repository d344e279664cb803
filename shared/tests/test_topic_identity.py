"""Topics that were deleted and made again are noticed by their identities."""

from __future__ import annotations

from fastapi_stream_core.topic_identity import REMEMBERED, TopicIdentities, begun_in, is_of_another, with_begun
from fastapi_stream_core.topic_progress import TopicProgress


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


def test_a_note_says_how_many_partitions_are_begun() -> None:
    assert with_begun("", 3) == ""
    assert with_begun("topic-id=a1", 0) == "topic-id=a1"
    note = with_begun("topic-id=a1", 12)
    assert begun_in(note) == begun_in(f"{note}345 whatever lies behind it in memory") == 12
    assert begun_in("topic-id=a1") == begun_in("topic-id=a1 begun=1") == begun_in("what an operator noted") == 0
    assert not is_of_another(note, "topic-id=a1")
    assert is_of_another(note, "topic-id=b2")


def test_what_was_made_since_is_not_begun() -> None:
    progress = TopicProgress()
    progress.identities.note({"orders": "b2"})
    assert progress.is_begun(("orders", 7))  # nobody knows
    progress.learn_begun("orders", ["", "topic-id=b2 begun=1;", "topic-id=b2 begun=2;", "topic-id=a1 begun=9;"], 4)
    assert [progress.is_begun(("orders", number)) for number in range(4)] == [True, True, False, False]
    assert progress.note_of("orders") == "topic-id=b2 begun=2;"
    progress.begin([("orders", 0), ("orders", 2), ("bills", 5)])
    assert progress.note_of("orders") == "topic-id=b2 begun=3;"
    progress.forget_begun(["orders"])
    assert progress.note_of("orders") == "topic-id=b2"


def test_a_group_that_says_nothing_has_begun_all_that_there_is() -> None:
    progress = TopicProgress()
    progress.learn_begun("orders", ["topic-id=b2", "what an operator noted"], 4)
    assert progress.is_begun(("orders", 3))
    assert not progress.is_begun(("orders", 4))
