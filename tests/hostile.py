"""Files that want to exhaust memory, time, or trust, and files that are no clips at all."""

import io
import json
import math
import pathlib
import re
import struct
import tarfile
import zipfile
import zlib
from fractions import Fraction

import av
import numpy
from clips import picture, write_clip
from PIL import Image


def patched(path, find, change, *, occurrence=0):
    """Replace bytes of a file where `find` (a regular expression) matches; `change` makes new ones from the match."""
    data = path.read_bytes()
    match = list(re.finditer(find, data, re.DOTALL))[occurrence]
    new = change(match)
    path.write_bytes(data[: match.start()] + new + data[match.end() :])
    return path


# -- pictures that are larger than they look -----------------------------------------------------


def _chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(path, width, height, *, complete):
    """A PNG of a few kilobytes; if complete, with all of its black pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"")
    if complete:
        deflate = zlib.compressobj(9)
        row = bytes(1 + width)
        data = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def bmp(path):
    """A bitmap of 30000x30000 that is cut off after its header."""
    info = struct.pack("<IiiHHIIiiII", 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54 + 30000 * 30000 * 3, 0, 0, 54) + info + bytes(1000))


def tiff(path):
    """A TIFF of 60000x60000."""
    entries = [
        (256, 4, 1, 60000), (257, 4, 1, 60000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 60000), (279, 4, 1, 100),
    ]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    directory = struct.pack("<H", len(entries)) + packed + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + bytes(300))


def jpeg(path):
    """A JPEG whose header says 65535x65535."""
    buffer = io.BytesIO()
    Image.fromarray(picture(0)).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue())
    patched(path, rb"\xff\xc0\x00\x11\x08....", lambda m: m[0][:5] + b"\xff\xff\xff\xff")


def webp(path):
    """A lossless WebP whose header says 16384x16384."""
    buffer = io.BytesIO()
    Image.fromarray(picture(0)).save(buffer, "WEBP", lossless=True)
    path.write_bytes(buffer.getvalue())
    patched(path, rb"VP8L....\x2f....", lambda m: m[0][:9] + struct.pack("<I", 0x0FFFFFFF))


# -- clips that are larger than they look --------------------------------------------------------


def mjpeg_in_avi(path):
    """Motion JPEG whose pictures say 65500x65500."""
    write_clip(path, codec="mjpeg", pix_fmt="yuvj420p", container="avi", count=3)
    for occurrence in range(3):
        patched(
            path,
            rb"\xff\xc0\x00\x11\x08....",
            lambda m: m[0][:5] + b"\xff\xdc\xff\xdc",
            occurrence=occurrence,
        )


def avi_header(path):
    """An AVI whose headers say 65535x65535."""
    write_clip(path, codec="mpeg4", container="avi", count=3)
    patched(path, rb"strf....\x28\0\0\0........", lambda m: m[0][:12] + struct.pack("<ii", 65535, 65535))


def matroska_header(path):
    """A Matroska file, without checksums, whose track says 65535x65535."""
    without = {"write_crc32": "0"}
    write_clip(path, codec="ffv1", container="matroska", count=3, size=(320, 288), muxing=without)
    patched(path, rb"\xb0\x82\x01\x40\xba\x82\x01\x20", lambda m: b"\xb0\x82\xff\xff\xba\x82\xff\xff")


def mp4_header(path):
    """QuickTime of raw pictures that are said to be of 65535x65535."""
    write_clip(path, codec="rawvideo", pix_fmt="uyvy422", container="mov", count=3, size=(64, 48))
    patched(path, rb"2vuy.{24}....", lambda m: m[0][:28] + b"\xff\xff\xff\xff")


def h264_huge(path):
    """H.264 of 16384x8192: parameters of a huge picture before the slices of a small one."""
    write_clip(path, count=3, options={"bf": "0"})
    data = path.read_bytes()
    units = [b"\0\0\1" + unit for unit in re.split(rb"\0\0\0?\x01", data) if unit]
    others = [unit for unit in units if unit[3] & 31 != 7]
    path.write_bytes(_sequence_parameters(16384, 8192) + b"".join(others))


def _sequence_parameters(width, height):
    """A sequence parameter set of H.264, baseline."""
    bits = "01000010" + "11000000" + "00110100"  # profile 66, constraints, level 5.2
    for number in (0, 0, 0, 0, 1):  # its number, bits of frame numbers, order of output, its bits, references
        bits += _golomb(number)
    bits += "0" + _golomb(width // 16 - 1) + _golomb(height // 16 - 1) + "1" + "1" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\0\0\1\x67" + re.sub(rb"\0\0([\0-\x03])", lambda match: b"\0\0\3" + match[1], payload)


def _golomb(number):
    binary = bin(number + 1)[2:]
    return "0" * (len(binary) - 1) + binary


def billion_frames(path):
    """An MP4 whose tables claim 10^9 frames of one time and one size."""
    write_clip(path, codec="mpeg4", container="mp4", count=3, options={"bf": "0"})
    billion = struct.pack(">I", 10**9)
    patched(path, rb"stts\0\0\0\0\0\0\0\x01....", lambda m: m[0][:12] + billion)
    patched(path, rb"stsz\0\0\0\0....\0\0\0\x03", lambda m: m[0][:8] + struct.pack(">I", 16) + billion)
    patched(path, rb"stsc\0\0\0\0\0\0\0\x01\0\0\0\x01....", lambda m: m[0][:16] + billion)


def endless_gif_like_png(path):
    """A PNG of 8192x8193 black pixels: just over the limit, complete, 65 kB."""
    png(path, 8192, 8193, complete=True)


BOMBS = {
    "png header": ("a.png", lambda path: png(path, 100_000, 100_000, complete=False)),
    "png complete": ("a.png", endless_gif_like_png),
    "bmp": ("a.bmp", bmp),
    "tiff": ("a.tif", tiff),
    "jpeg": ("a.jpg", jpeg),
    "webp": ("a.webp", webp),
    "mjpeg in avi": ("a.avi", mjpeg_in_avi),
    "avi header": ("a.avi", avi_header),
    "mkv header": ("a.mkv", matroska_header),
    "mp4 header": ("a.mp4", mp4_header),
    "h264 parameters": ("a.h264", h264_huge),
    "billion frames": ("a.mp4", billion_frames),
}


# -- times that make no sense --------------------------------------------------------------------


def _with_times(path, times, container="matroska", durations=None, **options):
    """Pictures with any times: packets are given theirs after encoding."""
    source = path.with_name("source.mkv")
    write_clip(source, count=len(times), options={"bf": "0"}, **options)
    with av.open(str(source)) as given, av.open(str(path), "w", format=container) as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in given.demux(stream) if packet.size]
        for k, packet in enumerate(packets):
            packet.time_base = Fraction(1, 1000)
            packet.pts, packet.dts = times[k]
            if durations:
                packet.duration = durations[k]
            packet.stream = copy
            output.mux(packet)
    source.unlink()


def backwards(path):
    """Every second picture before the one that precedes it."""
    order = [(40 * (k + (1 if k % 2 else 3)), 40 * k) for k in range(20)]
    _with_times(path, order)


def far_apart(path):
    """The last picture three years later."""
    _with_times(path, [*((40 * k, 40 * k) for k in range(19)), (10**11, 10**11)])


def all_at_once(path):
    """All at one time."""
    _with_times(path, [(0, 0)] * 20)


def endless_last(path):
    """A last picture that is shown for three weeks."""
    _with_times(path, [(40 * k, 40 * k) for k in range(20)], durations=[40] * 19 + [1 << 31])


def untimed(path):
    """AVI without its index, whose rate is 0/0."""
    write_clip(path, codec="mpeg4", container="avi", count=20)
    patched(path, rb"vids.{16}........", lambda m: m[0][:-8] + bytes(8))


def fast_clock(path):
    """An MP4 with a clock of 2^32 ticks a second."""
    write_clip(path, codec="mpeg4", container="mp4", count=20)
    patched(path, rb"mdhd\0\0\0\0........(....)", lambda m: m[0][:-4] + b"\xff\xff\xff\xff")


def stopped_clock(path):
    """An MP4 with a clock of one tick a second, so that a frame takes minutes."""
    write_clip(path, codec="mpeg4", container="mp4", count=20)
    patched(path, rb"mdhd\0\0\0\0........(....)", lambda m: m[0][:-4] + b"\0\0\0\1")


def negative(path):
    """Times far below zero."""
    _with_times(path, [(40 * k - 10**10, 40 * k - 10**10) for k in range(20)], container="mpegts")


ABSURD = {
    "backwards": ("a.mkv", backwards),
    "far apart": ("a.mkv", far_apart),
    "all at once": ("a.mkv", all_at_once),
    "endless last": ("a.mkv", endless_last),
    "no rate": ("a.avi", untimed),
    "fast clock": ("a.mp4", fast_clock),
    "stopped clock": ("a.mp4", stopped_clock),
    "negative": ("a.ts", negative),
}


# -- what is no clip -----------------------------------------------------------------------------


def foreign_files(host):
    """Contents by name: files of many kinds; some ask for `host` to be visited."""
    rng = numpy.random.default_rng(5)
    archive, tar = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "text " * 1000)
    with tarfile.open(fileobj=tar, mode="w") as file:
        entry = tarfile.TarInfo("a.txt")
        entry.size = 4000
        file.addfile(entry, io.BytesIO(bytes(4000)))
    array = io.BytesIO()
    numpy.save(array, numpy.zeros((20, 20)))
    wave = (
        b"RIFF" + struct.pack("<I", 1036) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    )
    tone = bytes(int(128 + 100 * math.sin(k / 5)) for k in range(1000))
    url = f"{host}/a.ts"
    texts = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
        "m3u8 master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{host}/b.m3u8\n",
        "m3u8 key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{host}/key"\n#EXTINF:1,\n{url}\n',
        "ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "ffconcat plain": "ffconcat version 1.0\nfile /etc/passwd\nfile secret.ts\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {host.rpartition(':')[2]} "
        "RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{url}</BaseURL>'
        "</Period></MPD>",
        "pls": f"[playlist]\nFile1={url}\nNumberOfEntries=1\n",
        "asx": f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
        "xspf": f"<playlist><trackList><track><location>{url}</location></track></trackList></playlist>",
        "smil": f'<smil><body><video src="{url}"/></body></smil>',
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{host}/a.png"/></svg>',
        "html": f"<!doctype html><html><body><video src='{url}'></video></body></html>",
        "ffmetadata": ";FFMETADATA1\ntitle=x\n",
        "subtitles": "1\n00:00:01,000 --> 00:00:02,000\nhello\n\n" * 20,
        "webvtt": "WEBVTT\n\n00:01.000 --> 00:02.000\nhello\n",
        "json": json.dumps({"a": list(range(500))}),
        "script": "#!/bin/sh\nexit 1\n" * 50,
        "text": "this is no video\n" * 100,
        "csv": "clip,day\na.mp4,b.png\n" * 40,
        "lines of zeros": "0\n" * 2000,
    }
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {
        "zip": archive.getvalue(),
        "tar": tar.getvalue(),
        "gzip": b"\x1f\x8b\x08\0" + rng.bytes(2000),
        "pdf": b"%PDF-1.7\n" + bytes(500),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(57) + rng.bytes(3000),
        "exe": b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + rng.bytes(2000),
        "noise": rng.bytes(4000),
        "zeros": bytes(5000),
        "npy": array.getvalue(),
        "sqlite": b"SQLite format 3\0" + bytes(4080),
        "wave": wave + b"data" + struct.pack("<I", 1000) + tone,
        "font": b"\0\1\0\0\0\x0a" + rng.bytes(2000),
    }
    return contents


def damaged_starts(folder):
    """Pairs of a name and a path: beginnings of clips of six containers, too short to hold a picture."""
    makes = {
        "mp4": ("mp4", "libx264"),
        "mkv": ("matroska", "libx264"),
        "ts": ("mpegts", "libx264"),
        "avi": ("avi", "mjpeg"),
        "mov": ("mov", "mpeg4"),
        "h264": ("h264", "libx264"),
    }
    for suffix, (container, codec) in makes.items():
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        whole = write_clip(folder / f"whole.{suffix}", container=container, codec=codec, pix_fmt=pix_fmt)
        data = whole.read_bytes()
        for length in (0, 1, 16, 100, len(data) // 1000, len(data) // 100):
            path = pathlib.Path(folder) / f"start_{length}.{suffix}"
            path.write_bytes(data[:length])
            yield f"{suffix} {length}", path
