"""Hostile inputs from valid ones: how bytes, JSON and zips are altered, given a random source."""

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

Mutate = Callable[[Random, Sequence[bytes]], bytes]
"""Makes an input from a random source and some valid inputs."""

_WHOLE = [0, 1, 2, 7, 27, 28, 29, 127, 128, 255, 256, 783, 784, 32767, 32768, 65535, 65536]
_LARGE = [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**62, 2**63, 2**64, -(2**63), 10**400),
    *(0.5, -0.5, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", "a", "0", "-1", "nan", "..", "../..", "/etc/passwd", "C:\\x", "s3://b/k", "a/../../b"),
    *("x" * 5000, "\0", "\ud800", "\x1b[2J", "<script>", "latents/x", "float32", "uint8"),
    *([], {}, [[]], [0], [None], {"": {}}, {"path": "x"}, [0] * 1000, ["a"] * 3),
]
_DEEP = [b"[" * 100_000, b'{"a":' * 50_000, b"[" * 65 + b"]" * 65, b"1" * 5000, b"\xff\xfe[]"]


def mutated_bytes(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the inputs with some of its bytes altered, cut, moved or repeated."""
    content = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        random.choice(_ALTERATIONS)(random, content, seeds)
    return bytes(content)


class Reader(NamedTuple):
    """A reader under test.

    seeds: valid inputs. read: is given an input and an empty folder of its own; it may raise
    JobError alone. share: of a campaign's inputs, beside the other readers'. contained: the job has
    it in a process of its own too, and bears its end.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    mutate: Mutate = mutated_bytes
    share: float = 1.0
    contained: bool = False


def _flip(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    if content:
        content[_place(random, content)] ^= 1 << random.randrange(8)


def _byte(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    if content:
        content[_place(random, content)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, 32, 91, 123))


def _number(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    size = random.choice((2, 4, 4, 8))
    if len(content) >= size:
        value = random.choice([*_WHOLE, *_LARGE]) % 2 ** (8 * size)
        place = min(_place(random, content), len(content) - size)
        content[place : place + size] = value.to_bytes(size, random.choice(("big", "little")))


def _cut(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    del content[_place(random, content) :]


def _drop(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    place = _place(random, content)
    del content[place : place + random.choice((1, 2, 4, 16, 100))]


def _repeat(random: Random, content: bytearray, _: Sequence[bytes]) -> None:
    place = _place(random, content)
    part = content[place : place + random.choice((1, 2, 4, 16, 100, 1000))]
    content[place:place] = part * random.choice((1, 1, 2, 50))


def _splice(random: Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    other = random.choice(seeds)
    start = random.randrange(len(other) + 1)
    place = _place(random, content)
    content[place : place + random.choice((0, 4, 64, 10**6))] = other[start : start + 4096]


_ALTERATIONS = (_flip, _flip, _flip, _byte, _byte, _number, _number, _cut, _drop, _repeat, _splice)


def _place(random: Random, content: bytearray) -> int:
    """Anywhere, and as often near the beginning or the end, where headers and footers are."""
    most = max(1, len(content))
    near = min(most, random.choice((16, 64, 512)))
    return random.choice(
        (random.randrange(most), random.randrange(near), most - 1 - random.randrange(near))
    )


def mutated_json(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A document with some of its values put in others' places, replaced, nested or left out."""
    if random.random() < 0.2:
        return mutated_bytes(random, seeds)
    if random.random() < 0.01:
        return random.choice(_DEEP)
    try:
        document = json.loads(random.choice(seeds))
    except (ValueError, RecursionError):  # It was altered before.
        return mutated_bytes(random, seeds)
    if not isinstance(document, (dict, list)):
        return mutated_bytes(random, seeds)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = random.choice(places)
        _alter(random, holder, key, places)
    return json.dumps(document).encode()


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in list(pairs):
        yield value, key
        if isinstance(below, (dict, list)):
            yield from _places(below)


def _alter(random: Random, holder: Any, key: Any, places: Sequence[tuple[Any, Any]]) -> None:
    action = random.randrange(6)
    value = holder[key]
    if action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, dict):
        holder[random.choice([v for v in _VALUES if isinstance(v, str)])] = holder.pop(key)
    elif action == 2:
        other, its = random.choice(places)
        if isinstance(other, list) or its in other:
            holder[key] = json.loads(json.dumps(other[its] if _has(other, its) else None))
    elif action == 3 and type(value) in (int, float) and abs(value) < 2**70:
        holder[key] = random.choice((value + 1, value - 1, -value, value * 10**9, float(value)))
    else:
        holder[key] = json.loads(json.dumps(random.choice(_VALUES)))


def _has(holder: Any, key: Any) -> bool:
    return key < len(holder) if isinstance(holder, list) else key in holder


_MORE = [b"", b"", b"", b"x", *(gzip.compress(bytes(size), 1, mtime=0) for size in (1, 1 << 24))]
"""What may follow a gzip: a gzip goes on with the next."""


def mutated_gzip(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A gzip of what was altered, or altered itself. seeds: of gzips."""
    if random.random() < 0.4:
        return mutated_bytes(random, seeds)
    plain = mutated_bytes(random, [gzip.decompress(seed) for seed in seeds])
    packed = gzip.compress(plain, 1, mtime=0) + random.choice(_MORE)
    return packed * random.choice((1, 1, 1, 2))


def mutated_zip(inner: dict[str, Mutate]) -> Mutate:
    """Alters a zip's bytes, the content of a member (by its ending), or what members there are."""

    def mutate(random: Random, seeds: Sequence[bytes]) -> bytes:
        if random.random() < 0.3:
            return mutated_bytes(random, seeds)
        with zipfile.ZipFile(io.BytesIO(random.choice(seeds))) as archive:
            parts = [(info.filename, archive.read(info)) for info in archive.infolist()]
        for _ in range(random.choice((1, 1, 2))):
            place = random.randrange(len(parts))
            name, content = parts[place]
            alter = next((inner[end] for end in inner if name.endswith(end)), mutated_bytes)
            parts[place] = random.choice(
                (
                    (name, alter(random, [content])),
                    (name, alter(random, [content])),
                    (name, alter(random, [content])),
                    (random.choice(("../x", "/x", "a\\b", "c:x", "", name.upper())), content),
                    (name, bytes(random.choice((0, 1, 1 << 16)))),
                    (parts[random.randrange(len(parts))][0], content),
                )
            )
            if random.random() < 0.05 and len(parts) > 1:
                del parts[place]
        return zipped(random, parts)

    return mutate


def zipped(random: Random, parts: Sequence[tuple[str, bytes]]) -> bytes:
    """A zip of these parts, packed in any way; sometimes of sizes that lie."""
    content = io.BytesIO()
    way = random.choice((0, 0, 0, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(content, "w", way) as archive:
        for name, part in parts:
            archive.writestr(zipfile.ZipInfo(name), part, way)
    packed = bytearray(content.getvalue())
    if random.random() < 0.1:  # The size unpacked, in the central directory.
        place = packed.rfind(b"PK\x01\x02") + 24
        packed[place : place + 4] = struct.pack("<I", random.choice(_LARGE[:3] + _WHOLE))
    return bytes(packed)


_BOMBS = [zlib.compress(bytes(size)) for size in (10, 1 << 16, 1 << 24)]
"""What a chunk of text or a profile may unpack to."""


def mutated_png(random: Random, seeds: Sequence[bytes]) -> bytes:
    """A PNG whose chunks are altered and have the right CRC-32, or whose bytes are altered."""
    if random.random() < 0.3:
        return mutated_bytes(random, seeds)
    content = random.choice(seeds)
    chunks = []
    place = 8
    while place + 12 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    for _ in range(random.choice((1, 1, 2))):
        place = random.randrange(len(chunks))
        kind, part = chunks[place]
        chunks[place] = (kind, mutated_bytes(random, [part]))
        if random.random() < 0.3:
            kind = random.choice(
                (
                    b"tEXt",
                    b"zTXt",
                    b"iCCP",
                    b"iTXt",
                    b"eXIf",
                    b"PLTE",
                    b"tRNS",
                    b"acTL",
                    b"fcTL",
                    b"fdAT",
                    b"IDAT",
                    b"IHDR",
                    b"pHYs",
                    b"gAMA",
                )
            )
            bomb = random.choice(_BOMBS)
            chunks.insert(place, (kind, random.choice((b"a\0\0" + bomb, bomb, part, b""))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in chunks
    )
