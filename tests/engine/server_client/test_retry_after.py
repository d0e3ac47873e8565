"""Retry-After in all its forms, and its bound."""

from __future__ import annotations

from email.message import Message

from engine.server_client.retry_after import retry_after

HOUR = 3600.0


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after({"retry-after": "7"}, HOUR) == 7
    assert retry_after({"Retry-After": "0.5"}, HOUR) == 0.5
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}, HOUR) == 1.5
    date = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}
    assert retry_after(date, HOUR, now=1445412480 - 90) == 90
    assert retry_after(date, HOUR, now=1445412480 + 90) == 0
    forms = ("", "soon", "-3", "1e9", "nan", "inf")
    assert [retry_after({"retry-after": text}, HOUR) for text in forms] == [0, 0, 0, HOUR, 0, 0]
    assert retry_after({}, HOUR) == 0


def test_the_caller_bounds_the_wait() -> None:
    message = Message()
    message["RETRY-AFTER"] = "100"
    assert [retry_after(dict(message.items()), longest) for longest in (30.0, 600.0)] == [30.0, 100.0]
