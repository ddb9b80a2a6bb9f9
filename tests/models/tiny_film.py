"""A small film whose contents are known: a white square that moves to the right, and tones that change."""

from fractions import Fraction

import av
import numpy as np

SIDE, SQUARE = 64, 8  # pixels
PITCHES = (440.0, 880.0, 1320.0, 1760.0)  # Hz, one a quarter of the film
CODECS = {  # suffix -> codecs of pictures and sound, samples a second
    ".mp4": ("libx264", "aac", 44100),
    ".mov": ("libx264", "pcm_s16le", 44100),
    ".avi": ("mpeg4", "libmp3lame", 44100),
    ".mkv": ("libx264", "flac", 44100),
    ".webm": ("libvpx-vp9", "libopus", 48000),
}


def left_edge(second, seconds: float):
    """Return the first column of the square at a second of the film."""
    return np.floor(np.asarray(second) / seconds * (SIDE - SQUARE)).astype(int)


def pitch_at(second, seconds: float):
    """Return the pitch that is heard at a second of the film."""
    return np.array(PITCHES)[np.minimum(np.asarray(second) / seconds * 4, 3).astype(int)]


def wave(seconds: float, rate: int) -> np.ndarray:
    """Return the sound of the film, (sample,)."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch_at(t, seconds) * t)).astype(np.float32)


def write_film(path, seconds: float = 4.0, fps: int = 25, *, sound: bool = True, pictures: bool = True, stamps=None,
               turned: int = 0, b_frames: int = 0, options=None):
    """Write the film in the codecs of its suffix; `stamps` are the seconds of its frames, if they are not even."""
    picture_codec, sound_codec, rate = CODECS[path.suffix]
    with av.open(str(path), "w", options=options or {}) as out:
        tracks = []
        if pictures:
            video = out.add_stream(picture_codec, rate=fps)
            video.width = video.height = SIDE
            video.pix_fmt, video.gop_size = "yuv420p", 12
            if b_frames:
                video.max_b_frames = b_frames
            if turned:
                video.set_display_rotation(turned)
            times = np.arange(round(seconds * fps)) / fps if stamps is None else stamps
            tracks.append((video, ((second, _picture(second, seconds)) for second in times)))
        if sound:
            audio = out.add_stream(sound_codec, rate=rate)
            audio.layout = "stereo"
            both = np.stack([wave(seconds, rate)] * 2)
            tracks.append((audio, ((at / rate, _block(both[:, at:at + 1024], at, rate))
                                   for at in range(0, both.shape[1], 1024))))
        for _, frame, track in sorted(((s, f, t) for t, frames in tracks for s, f in frames), key=lambda x: x[0]):
            out.mux(track.encode(frame))
        for track, _ in tracks:
            out.mux(track.encode())
    return path


def _picture(second: float, seconds: float):
    pixels, left = np.zeros((SIDE, SIDE, 3), np.uint8), int(left_edge(second, seconds))
    pixels[20:36, left:left + SQUARE] = 255
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame.time_base = Fraction(1, 1000)
    frame.pts = round(second * 1000)
    return frame


def _block(samples: np.ndarray, at: int, rate: int):
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame
