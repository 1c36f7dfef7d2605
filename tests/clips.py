"""Clips for tests, written with the bare library, so that reader and writer are tested apart."""

from fractions import Fraction

import av
import numpy

WIDTH, HEIGHT = 158, 118


def picture(k, width=WIDTH, height=HEIGHT):
    """A block pattern with a moving square, (H, W, 3) uint8."""
    rng = numpy.random.default_rng(11)
    blocks = rng.integers(0, 255, (-(-height // 8), -(-width // 8), 3)).astype(numpy.uint8)
    image = blocks.repeat(8, 0).repeat(8, 1)[:height, :width].copy()
    image[height // 3 : height // 2, 2 * k : 2 * k + width // 8] = (255, 255, 0)
    return image


def write_clip(
    path, *, count=60, codec="libx264", pix_fmt="yuv420p", pts=None, time_base=Fraction(1, 25),
    rate=25, size=(WIDTH, HEIGHT), container=None, muxing=None, options=None, tags=(), sound=0.0,
):  # fmt: skip
    """Write a clip of `picture`; `muxing` are options of the container, `tags` attributes of the encoder."""
    with av.open(str(path), "w", format=container, options=muxing or {}) as output:
        stream = output.add_stream(codec, rate=rate, options={"g": "12", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        for name, value in tags:
            setattr(stream.codec_context, name, value)
        audio = output.add_stream("aac", rate=8000) if sound else None
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(picture(k, *size), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = (pts[k] if pts is not None else k), time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if audio is not None:
            for k in range(int(sound * 8)):
                silence = av.AudioFrame.from_ndarray(numpy.zeros((1, 1000), numpy.float32), "fltp", "mono")
                silence.sample_rate, silence.pts = 8000, 1000 * k
                output.mux(audio.encode(silence))
            output.mux(audio.encode(None))
    return path


def remux(source, path, container, *, rate=25):
    """Give the pictures of an elementary stream without B-frames times, in a container."""
    clock = Fraction(1, 90000)
    with av.open(str(source)) as raw, av.open(str(path), "w", format=container) as output:
        stream = raw.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = (packet for packet in raw.demux(stream) if packet.size)
        for k, packet in enumerate(packets):
            packet.pts = packet.dts = round(k / rate / clock)
            packet.time_base, packet.stream = clock, copy
            output.mux(packet)
    return path


def trimmed(source, path, count, *, rate=25):
    """Copy an MP4 with an edit list that leaves out the first `count` pictures."""
    with av.open(str(source)) as given, av.open(str(path), "w") as output:
        stream = given.streams.video[0]
        copy = output.add_stream_from_template(stream)
        copy.time_base = stream.time_base
        tick = int(Fraction(1, rate) / stream.time_base)
        for packet in given.demux(stream):
            if packet.size:
                packet.pts, packet.dts = packet.pts - count * tick, packet.dts - count * tick
                packet.stream = copy
                output.mux(packet)
    return path


def with_rotation(path, angle):
    """Set the display matrix in the track header of an MP4."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    rows = {0: (one, 0, 0, one), 90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}
    a, b, c, d = rows[angle]
    matrix = (a, b, 0, c, d, 0, 0, 0, 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
