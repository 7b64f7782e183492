"""Puts parts of protocol buffers together by hand, where many small ones are written.

See https://protobuf.dev/programming-guides/encoding.
"""

NO_TEXTS = b"\n\x00"  # a Feature that is a list of no texts


def framed(tag: bytes, body: bytes) -> bytes:
    r"""A field of bytes or of a message: its tag, its length and its content.

    >>> framed(b"\n", b"abc")
    b'\n\x03abc'
    """
    size = len(body)
    return b"%b%c%b" % (tag, size, body) if size < 128 else tag + varint(size) + body


def varint(value: int) -> bytes:
    r"""A whole number, of negative ones the 64 bits.

    >>> varint(1), varint(300)
    (b'\x01', b'\xac\x02')
    """
    if 0 <= value < 128:
        return b"%c" % value
    if 0 <= value < 16384:
        return b"%c%c" % (value & 127 | 128, value >> 7)
    if 0 <= value < 2097152:
        return b"%c%c%c" % (value & 127 | 128, value >> 7 & 127 | 128, value >> 14)
    value &= 0xFFFFFFFFFFFFFFFF
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    return bytes(digits)
