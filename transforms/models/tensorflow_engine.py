"""TensorFlow: the reference, which computes whatever Keras can load."""

from typing import Any

from transforms.models.autoencoder import load_decoder, load_encoder
from transforms.models.directory import Model
from transforms.models.network import Compute, Network


def encoder_network(model: Model) -> Network:
    """The encoder of a model. Raises InputError as load_encoder does."""
    return network(load_encoder(model))


def decoder_network(model: Model) -> Network:
    """The decoder of a model. Raises InputError as load_decoder does."""
    return network(load_decoder(model))


def network(loaded: Any) -> Network:
    """A Keras network, ready to compute."""
    return Network(
        compute_function(loaded),
        tuple(loaded.input_shape[1:]),
        tuple(loaded.output_shape[1:]),
        int(loaded.count_params()),
    )


def compute_function(loaded: Any) -> Compute:
    """What runs a Keras network on any number of images or latents, traced once."""
    import tensorflow as tf

    # One trace for every batch length, so that a short last batch costs no second one.
    signature = [tf.TensorSpec(loaded.input_shape, tf.float32)]

    # AutoGraph, which would find nothing to convert, writes files to the temporary folder.
    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def compute(batch: Any) -> Any:
        return loaded(batch, training=False)

    return lambda batch: compute(batch).numpy()
