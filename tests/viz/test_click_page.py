"""The page to click on: it holds all it needs, and nothing a stranger could slip into it."""

import base64
import re

import cv2
import numpy as np

from streamvis.viz.click_page import click_page

PIXELS = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)


def test_the_picture_is_in_the_page_pixel_by_pixel():
    page = click_page(PIXELS, "a.mp4", "streamvis calibrate a.mp4")
    data = re.search(r"data:image/png;base64,([^\"]+)", page)[1]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(image[:, :, ::-1], PIXELS)
    assert "WIDTH = 40, HEIGHT = 30" in page
    assert 'COMMAND = "streamvis calibrate a.mp4"' in page


def test_nothing_is_fetched_and_no_placeholder_is_left():
    page = click_page(PIXELS, "a.mp4", "streamvis calibrate a.mp4")
    assert not re.search(r"https?:|src=\"(?!data:)|@[A-Z]+@|@import|<link", page)
    assert page.count("<script") == page.count("</script>") == 1


def test_names_of_files_stay_text():
    name = "</script><script>alert(1)</script>&.mp4"
    page = click_page(PIXELS, name, f"streamvis calibrate '{name}'")
    assert page.count("<script") == 1
    assert "alert(1)&lt;" in page
    assert "\\u003c/script>" in page
