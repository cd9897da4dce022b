from beam_job.reports.plots import Curve, rate_distortion_png, rate_distortion_svg

CURVES = [
    Curve("latents int8", (20.0, 30.0, 40.0), (22.0, 23.5, 24.0), ours=True),
    Curve("WebP & more", (100.0, 200.0), (22.6, 34.0)),
    Curve("nothing", (), ()),
]


def test_the_picture_is_one_svg_element_of_text_and_always_the_same():
    svg = rate_distortion_svg(CURVES)
    assert svg == rate_distortion_svg(list(CURVES))
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
    assert ">latents int8</text>" in svg
    assert ">WebP &amp; more</text>" in svg
    assert "nothing" not in svg
    assert rate_distortion_png(CURVES).startswith(b"\x89PNG")
