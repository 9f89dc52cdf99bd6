"""Ways to damage a file, as disks, networks and attackers do."""

import random

HUGE = (
    b'\xff' * 8,
    b'\xff' * 4,
    b'\x00' * 8,
    (2**40).to_bytes(8, 'little'),
    (2**31 - 1).to_bytes(4, 'big'),
)
DIGITS = b'0123456789'


def mutate(data: bytes, rng: random.Random) -> bytes:
    """The data, damaged in one to three places."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = rng.choice(DAMAGES)(data, rng) or b'\x00'
    return data


def _cut(data, rng):
    return data[: rng.randrange(len(data))]


def _flip(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _declare(data, rng):
    """A size or an offset that is enormous, negative or nothing."""
    at, number = rng.randrange(len(data)), rng.choice(HUGE)
    return data[:at] + number + data[at + len(number) :]


def _number(data, rng):
    """A written number that is another."""
    places = [i for i, byte in enumerate(data[:65536]) if byte in DIGITS]
    if not places:
        return _flip(data, rng)
    at = rng.choice(places)
    return data[:at] + rng.choice((b'-1', b'1e999', b'9' * 20, b'NaN')) + data[at + 1 :]


def _repeat(data, rng):
    first, last = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    return data[:last] + data[first:]


def _erase(data, rng):
    first, last = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    last = min(last, first + 256)
    return data[:first] + data[last:]


DAMAGES = (_cut, _flip, _declare, _number, _repeat, _erase)
