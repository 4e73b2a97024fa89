"""First stage: autoencoders between images and a small grid of latents, on which a lens can work."""

from xlens.codec.adapted import Autoencoder, as_codec
from xlens.codec.contract import Codec
from xlens.codec.fidelity import CodecFidelity, codec_fidelity
from xlens.codec.network import ConvCodec
from xlens.codec.training import CodecOptions, fit_codec

__all__ = [
    "Autoencoder",
    "Codec",
    "CodecFidelity",
    "CodecOptions",
    "ConvCodec",
    "as_codec",
    "codec_fidelity",
    "fit_codec",
]
