import pytest

from worker.frames import BadFrame, FrameReader, encode


def _frame(text: str) -> bytes:
    body = text.encode()
    return len(body).to_bytes(4, "big") + body


def test_messages_come_out_as_they_went_in_however_they_arrive():
    messages = [{"a": [1, None, "é"]}, {"b": "\u2028 \t"}]
    content = b"".join(encode(message) for message in messages)
    reader = FrameReader()
    seen = []

    for byte in content:
        reader.feed(bytes([byte]))
        message = reader.next()
        if message is not None:
            seen.append(message)

    assert seen == messages
    assert reader.next() is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[1]",
        "no JSON",
        "",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": "\\u0000"}',
        '{"a": "\\ud800"}',
        '{"a": ' + "9" * 10_000 + "}",
    ],
)
def test_what_is_no_plain_object_is_refused(text):
    reader = FrameReader()
    reader.feed(_frame(text))

    with pytest.raises(BadFrame):
        reader.next()


def test_bytes_that_are_no_text_are_refused():
    reader = FrameReader()
    reader.feed(b"\0\0\0\1\xff")

    with pytest.raises(BadFrame):
        reader.next()


def test_a_frame_over_the_limit_is_refused_before_it_is_there():
    reader = FrameReader(max_frame_bytes=10)

    with pytest.raises(BadFrame, match="10 are allowed"):
        reader.feed(b"\0\0\0\x0b")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_say_is_never_sent(value):
    with pytest.raises(ValueError, match="JSON"):
        encode({"value": value})
