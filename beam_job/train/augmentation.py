"""Images changed as handwriting varies: slant, turn, size, place, and width of the stroke."""

from typing import Any

import tensorflow as tf

from transforms.images import SIDE

_UNCHANGED = 0.2
"""The share of images that are left as they are."""


def augment(images: Any, seed: Any, strength: float) -> Any:
    """Changes each image at random: float32 tensor (n, 28, 28, 1) in [0, 1] to the same.

    seed: int32 tensor (2,); the same one gives the same changes. strength: 1 for as much as
    handwriting varies, 0 for no change.
    """
    if strength == 0:
        return images
    draws = tf.unstack(tf.random.stateless_uniform((10, tf.shape(images)[0]), seed, -1.0, 1.0))
    moved = _moved(images, draws[:6], strength)
    stroked = _stroked(moved, draws[6], draws[7] < 0, strength)
    unchanged = (draws[8] + 1) / 2 < _UNCHANGED
    return tf.where(unchanged[:, None, None, None], images, tf.clip_by_value(stroked, 0.0, 1.0))


def _moved(images: Any, draws: list[Any], strength: float) -> Any:
    """Scaled by 0.86 to 1.13 each way, slanted by 17 degrees, turned by 7, shifted by 2 pixels."""
    width, height, slant, turn, right, down = (strength * draw for draw in draws)
    width, height = tf.exp(0.135 * width - 0.015), tf.exp(0.135 * height - 0.015)
    cosine, sine = tf.cos(0.12 * turn), tf.sin(0.12 * turn)
    # The projective transform says where each pixel of the result comes from.
    rows = [cosine / width, (sine + 0.3 * slant) / width, -sine / height, cosine / height]
    middle = (SIDE - 1) / 2
    from_x = middle - (rows[0] + rows[1]) * middle + 2 * right
    from_y = middle - (rows[2] + rows[3]) * middle + 2 * down
    none = tf.zeros_like(right)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([rows[0], rows[1], from_x, rows[2], rows[3], from_y, none, none], 1),
        output_shape=(SIDE, SIDE),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def _stroked(images: Any, amount: Any, chosen: Any, strength: float) -> Any:
    """Strokes made wider (amount above 0) or thinner, where chosen, by up to 0.8 pixels a side."""
    wider = tf.nn.max_pool2d(images, 3, 1, "SAME") - images
    thinner = images + tf.nn.max_pool2d(-images, 3, 1, "SAME")
    amount = tf.where(chosen, 0.8 * strength * amount, 0.0)[:, None, None, None]
    return images + tf.maximum(amount, 0.0) * wider - tf.maximum(-amount, 0.0) * thinner
