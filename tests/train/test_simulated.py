"""The simulated event camera: what it must keep whatever the picture, and single pixels worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from randhet.train.data import simulated
from randhet.train.data.images import channel_statistics
from randhet.train.data.simulated import CONTRAST, DARK, LEGS, path, record, shifted
from randhet.train.data.sources import digits, enlarged, load


def pictures(count: int = 3, size: int = 7) -> np.ndarray:
    return np.random.default_rng(2).random((count, size, size))


def test_a_black_picture_sends_nothing_and_the_same_picture_the_same() -> None:
    assert not record(np.zeros((2, 5, 5)), 6).any()
    assert np.array_equal(record(pictures(), 6), record(pictures(), 6))


def test_the_camera_comes_back_to_where_it_started() -> None:
    assert np.sum(LEGS, axis=0).tolist() == [0, 0]
    assert path(6)[-1][-1] == (0.0, 0.0) and [len(places) for places in path(6)] == [simulated.SUBSTEPS] * 6


def test_on_events_less_off_events_are_the_change_of_log_brightness_since_the_start() -> None:
    """At every look the level that a pixel keeps is within one contrast of the brightness that it sees."""
    start, frames = np.pad(pictures(), ((0, 0), (2, 2), (2, 2))), record(pictures(), 12).astype(int)
    counted = np.cumsum(frames[:, :, 0] - frames[:, :, 1], axis=1) * CONTRAST
    for t, places in enumerate(path(12)):
        change = np.log(shifted(start, *places[-1]) + DARK) - np.log(start + DARK)
        assert np.abs(change - counted[:, t]).max() < CONTRAST + 1e-9


def test_one_bright_pixel_by_hand() -> None:
    """Seen from half a pixel further right, half of it lies one pixel to the left."""
    picture = np.zeros((1, 1, 5))
    picture[0, 0, 2] = 1.0
    assert shifted(picture, 0, 0.5)[0, 0].tolist() == [0, 0.5, 0.5, 0, 0]
    assert shifted(picture, 0, 1.0)[0, 0].tolist() == [0, 1, 0, 0, 0]
    assert shifted(picture, 0, -1.25)[0, 0].tolist() == [0, 0, 0, 0.75, 0.25]
    assert not shifted(picture, 1.0, 0).any()


def test_enlarged_pictures_keep_their_edges_and_their_mean_between() -> None:
    assert enlarged(np.array([[[0.0, 1.0]]]))[0].tolist() == [[0, 0.25, 0.75, 1]] * 2


def test_saccades_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="steps are 16, they must be a multiple of 3"):
        record(pictures(), 16)


def test_the_digits_as_events_are_the_digits_in_order() -> None:
    for split in ("train", "test"):
        events, still = load("digits-events", split), digits(split)  # type: ignore[arg-type]
        assert events.sequence and events.frame == (2, 20, 20) and events.pixels.shape[1] == 18
        assert events.pixels.dtype == np.uint8 and np.array_equal(events.labels, still.labels)
        # a frame is sparse, every recording has events of both polarities, and no frame is empty in all of them
        assert 0.02 < (events.pixels > 0).mean() < 0.1
        assert events.pixels.any((1, 3, 4)).all() and events.pixels.any((0, 2, 3, 4)).all()


def test_recordings_are_normalised_so_that_no_event_stays_nothing() -> None:
    events = load("digits-events", "test")
    mean, std = channel_statistics(events)
    assert mean == (0.0, 0.0)
    for channel, value in enumerate(std):
        assert value == pytest.approx(float((events.pixels[:, :, channel] / 255).std()), rel=1e-9)
