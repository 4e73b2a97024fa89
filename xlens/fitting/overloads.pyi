"""``xlens.fit`` and ``xlens.explain`` for type checkers, with the options of xlens's own backends.

Written by ``python -m xlens.fitting.write_overloads``; a test compares. Another distribution's backend is checked
where it is passed as an object, ``Mine(rank=3)``; by its name it takes any options.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, overload

import torch
from torch import nn
from typing_extensions import Unpack, deprecated

from xlens.classifier.classifier import Classifier
from xlens.classifier.margins import Classes
from xlens.codec import CodecOptions
from xlens.contracts.backend import Backend, StepEvent
from xlens.contracts.explainer import Explainer
from xlens.counterfactual.mask_options import MaskOptions
from xlens.explainer import LensExplainer
from xlens.explanation import Explanation
from xlens.stages.decoder import DecoderOptions
from xlens.surrogate import SurrogateOptions

class DIFOptions(TypedDict, total=False):
    """Options of ``dif``; a docstring beside each says what it is, and its default."""

    steps: int
    """training steps [2000]"""
    batch_size: int
    """inputs per step [128]"""
    code: int
    """width of the code [24]"""
    bound: float
    """codes lie between -bound and bound (C) [3.0]"""
    game: Literal["exponential", "margin", "none"]
    """how decoder and encoder play: a penalty after Soft-IntroVAE, IntroVAE's margin, or not (a VAE)
    ['exponential']
    """
    separation: Literal["me", "logistic", "none"]
    """what pulls the classes apart ['me']"""
    drawn_classes: bool
    """each step draws an input's class from the classifier's probabilities, not the most probable [True]"""
    separation_share: float
    """value of the separation term over that of the reconstruction [0.1]"""
    eta: float | None
    """fixed weight of Lambda itself (|eta|, paper); None: of its logarithm, by separation_share [None]"""
    nu: float
    """scale of the linear kernel of separation='me'; counts where gamma is given [1.0]"""
    gamma: float | None
    """added to the covariance of separation='me' (paper); None: a thousandth of its mean [None]"""
    feature_penalty: float
    """strength of L1 whose weights select features [0.01]"""
    top: int
    """features of one class, and of one counterfactual, at the most [3]"""
    network: Literal["auto", "dense", "convolutional"]
    """kind of networks; auto is dense up to 4096 values an input ['auto']"""
    hidden: int
    """width of the hidden layers of dense networks [384]"""
    width: int
    """channels of convolutional networks at full resolution [24]"""
    learning_rate: float
    """Adam's [0.001]"""
    ema: float
    """decay of the averaged weights that are kept [0.995]"""
    reconstruction_weight: float
    """squared error, summed over values, in ranges [10.0]"""
    prior_weight: float
    """KL to the prior [1.0]"""
    play_weight: float
    """introspective terms [1.0]"""
    margin: float
    """of game='margin', in multiples of the real inputs' KL [1.25]"""
    fixed_margin: float | None
    """of game='margin', in nats of KL (m, paper); None: margin times the real inputs' KL [None]"""
    sharpness: float
    """of game='exponential', per nat of KL [0.3]"""
    schedule: Literal["decayed", "constant"]
    """learning rates that warm up and fall, or stay as they are ['decayed']"""
    restarts: int
    """how often a fit whose health test fails is begun anew [2]"""

class RectifiedFlowOptions(TypedDict, total=False):
    """Options of ``flow``; a docstring beside each says what it is, and its default."""

    steps: int
    """training steps [700]"""
    batch_size: int
    """inputs per step [48]"""
    network: Literal["auto", "dense", "convolutional"]
    """kind of network; auto is convolutional for images ['auto']"""
    hidden: int
    """width of a dense network [256]"""
    width: int
    """channels of a convolutional network at full resolution [32]"""
    attributes: tuple[str, ...]
    """names of the columns of side_info [()]"""
    diffusion: str | None
    """folder of a class-conditional diffusion model of diffusers, which is used instead and not trained
    [None]
    """
    drop: float
    """share of the conditions that are left out in training [0.15]"""
    learning_rate: float
    """Adam's [0.001]"""
    ema: float
    """decay of the averaged weights that are kept [0.995]"""
    ode_steps: int
    """Heun's steps between noise and data, two passes of the network each [8]"""
    corrections: int
    """of each step of the inversion at most, two more passes each [8]"""
    inversion_tolerance: float
    """root mean square that a step of the inversion may miss, in half ranges [0.002]"""
    strongest: float
    """hardest guidance that a counterfactual is tried with [8.0]"""
    depth: float
    """share of the way back to noise that a counterfactual goes at most [0.85]"""
    guidance: float
    """how hard what is drawn anew is guided toward its class [2.0]"""

class ILVMOptions(TypedDict, total=False):
    """Options of ``ilvm``; a docstring beside each says what it is, and its default."""

    mode: Literal["exact", "amortised"]
    """lossless, or the paper's equations to the letter ['exact']"""
    flow: Literal["coupling", "spline", "planar", "linear", "amortised"]
    """the invertible map; linear for comparison; amortised is planar with parameters from the recognition
    network (mode='amortised' alone, paper) ['coupling']
    """
    layers: int
    """couplings, or planar layers (16 or 32 of them) [2]"""
    hidden: int
    """width of the couplings' hidden layers [64]"""
    code: int
    """width of the code that the flow works on, at the most [64]"""
    attributes: tuple[str, ...]
    """names of the columns of side_info [()]"""
    kinds: tuple[str, ...]
    """of the columns: auto, binary, classes, ordinal, single or measured; classes:5 for values 0 to 4;
    without side_info, columns of which nothing is observed yet [()]
    """
    steps: int
    """training steps [2200]"""
    batch_size: int
    """rows per step, half of them with side information [256]"""
    learning_rate: float
    """AdamW's [0.002]"""
    label_weight: float
    """side information against density (gamma) [20.0]"""
    noise: float
    """noise on standardised inputs of the flow, against learning rows by heart [0.4]"""
    early_stopping: bool
    """hold out a fifth of the side information, and keep the best state [True]"""
    memory: int
    """rows kept with the lens to learn on from (numbers of the layer) [4096]"""
    bank: int
    """real inputs kept with the lens, shared out evenly over its classes [512]"""
    teaching_steps: int
    """training steps each time it is taught [400]"""
    dimensions: int
    """dimensions of the code for each thing that is read, which is a sum of them [1]"""
    uncertain: Literal["readout", "code"]
    """what is uncertain when it asks: the read-out's parameters, or z* given the input (paper), where that
    is drawn: in mode='amortised', or over a lens with a posterior ['readout']
    """

class InfillOptions(TypedDict, total=False):
    """Options of ``infill``; a docstring beside each says what it is, and its default."""

    fill: Literal["harmonic", "nearest", "learned"]
    """what stands in a hole: a smooth continuation with the image's own detail; its nearest patches, which
    suit line art and binary images; or what a network has learned from inputs free of evidence, in
    minutes ['harmonic']
    """
    search: Literal["auto", "survey", "tiles"]
    """where to look for evidence: what the survey calls so; tiles of each input, by how much filling them
    moves the classifier; auto tries both on a few inputs where the survey finds little. Of a label
    among others that small patches tell from its absence, tiles follow on each input where the survey
    fails ['auto']
    """
    survey: int
    """inputs that are surveyed, spread over the classifier's classes [240]"""
    words: int
    """kinds of patches that are told apart [384]"""
    goal: float
    """how sure the classifier has to be, as a share of its median margin on real inputs [0.0]"""
    largest: float
    """share of the object that an edit may take [0.3]"""
    parts: int
    """parts of an edit that are named; the last holds whatever is left [6]"""
    steps: int
    """training steps of the fill that is learned [400]"""
    batch_size: int
    """inputs per step of the fill that is learned [8]"""
    width: int
    """channels of the fill that is learned, at its finest resolution [16]"""
    learning_rate: float
    """Adam's, for the fill that is learned [0.002]"""

class IntroVACOptions(TypedDict, total=False):
    """Options of ``introvac``; a docstring beside each says what it is, and its default."""

    steps: int
    """training steps [1500]"""
    batch_size: int
    """inputs per step [64]"""
    code: int
    """width of the code; more than classes and attributes together [24]"""
    introspection: bool
    """the decoder plays against encoder and head; False is VAC [True]"""
    classed_samples: bool
    """introspection gives prior samples the class that the head reads [True]"""
    network: Literal["auto", "dense", "convolutional", "residual"]
    """kind of networks; auto is dense up to 4096 values an input, residual the paper's ['auto']"""
    hidden: int
    """width of the hidden layers of dense networks [512]"""
    width: int
    """channels of convolutional networks at full resolution [24]"""
    attributes: tuple[str, ...]
    """names of the columns of side_info [()]"""
    learning_rate: float
    """Adam's [0.001]"""
    ema: float
    """decay of the averaged weights that are kept [0.995]"""
    reconstruction_weight: float
    """absolute error of the reconstruction (b_AE) [100.0]"""
    class_weight: float
    """cross entropies of the linear head, summed (b_CL) [1.0]"""
    attribute_game: bool
    """attributes take part in the game: the decoder also makes decodings that are read as they are (paper)
    [False]
    """
    attribute_weight: float
    """losses of the attributes, summed [3.0]"""
    prior_weight: float
    """KL to the prior per dimension (b_reg) [3.0]"""
    detect_weight: float
    """encoder and head tell decodings from real inputs (b_EC) [0.3]"""
    fool_weight: float
    """the decoder fools encoder and head (b_G) [1.0]"""
    game_share: float | None
    """most that the game pulls on the decoder, relative to the reconstruction; None: no limit (paper)
    [0.5]
    """
    restarts: int
    """how often a fit whose game destroys the reconstruction is begun anew [2]"""
    schedule: Literal["decayed", "halved", "constant"]
    """learning rates that warm up and fall, are halved at .4, .6 and .8 of the steps (paper), or stay
    ['decayed']
    """
    clip: float | None
    """largest norm of a gradient; None: no limit (paper) [20.0]"""
    longest_step: float
    """how far a counterfactual may go in the code [8.0]"""
    calibrated: bool
    """sampling uses the head calibrated on the classifier's answers [True]"""
    langevin_step: float
    """step of the Langevin iteration, to begin with [0.2]"""
    langevin_steps: int
    """number of its steps [400]"""
    sharpness: float
    """power of p(class|code) that is sampled from; 1 is the posterior [4.0]"""
    metropolis: bool
    """accept or reject each of its steps; False is the paper's iteration [True]"""

class JLVMOptions(TypedDict, total=False):
    """Options of ``jlvm``; a docstring beside each says what it is, and its default."""

    steps: int
    """training steps [3000]"""
    batch_size: int
    """inputs per step, half of them with side information [128]"""
    code: int
    """width of the code [24]"""
    beta: float
    """weight of KL(q(z*|x) || q(z*)), the compression [1.0]"""
    prior: Literal["learned", "fixed"]
    """q(z*): a learned Gaussian, or N(0, I) ['learned']"""
    label_weight: float
    """weight of log q(s|z*) [40.0]"""
    free_bits: float
    """nats of each dimension that cost nothing [0.05]"""
    warm_up: float
    """share of the steps over which the compression sets in [0.3]"""
    attributes: tuple[str, ...]
    """names of the columns of side_info [()]"""
    kinds: tuple[str, ...]
    """of the columns: auto, binary, classes, ordinal, single or measured; classes:5 for values 0 to 4 [()]"""
    network: Literal["auto", "dense", "convolutional"]
    """kind of networks; auto is dense up to 4096 values an input ['auto']"""
    hidden: int
    """width of the hidden layers of dense networks [512]"""
    width: int
    """channels of convolutional networks at full resolution [24]"""
    learning_rate: float
    """Adam's [0.001]"""
    ema: float
    """decay of the averaged weights that are kept [0.995]"""
    dimensions: int
    """dimensions of the code for each thing that is read, which is a sum of them [1]"""
    likelihood: Literal["gaussian", "bernoulli"]
    """p(x|z*): a Gaussian as wide as the batch's error, or one bit for each value, on its range
    ['gaussian']
    """

class MedXGANOptions(TypedDict, total=False):
    """Options of ``medxgan``; a docstring beside each says what it is, and its default."""

    steps: int
    """training steps [700]"""
    batch_size: int
    """inputs per step [48]"""
    reference: int
    """the reference class ('healthy'), whose evidence blocks are all zero [0]"""
    nuisance_code: int
    """width of z1, everything but the class evidence [64]"""
    class_code: int
    """width of a block of z2, the evidence for one class [16]"""
    network: Literal["auto", "dense", "convolutional"]
    """kind of networks; auto is convolutional for images of 1 to 4 channels and at least 8 pixels a side
    ['auto']
    """
    hidden: int
    """width of the hidden layers of dense networks [256]"""
    width: int
    """channels of convolutional networks at full resolution [24]"""
    linear: bool
    """z1 also reaches the image through the data's principal components [True]"""
    encoder: bool
    """train an encoder; without one codes are found by inversion alone [True]"""
    class_prior: Literal["sphere", "gaussian"]
    """what kinds of evidence are drawn from: the sphere of radius sqrt(class_code), or N(0, I) (paper)
    ['sphere']
    """
    inversion_steps: int
    """Adam steps that refine each code when explaining [0]"""
    inversion_weight: float
    """the classifier's disagreement in a search for a code; paper: 1 [0.1]"""
    inversion_prior: float
    """distance of z1 from its prior in such a search; paper: 0 [0.0001]"""
    soft: bool
    """draw amounts of evidence between 0 and 1, with soft class targets [True]"""
    hinge: bool
    """hinge loss for the discriminator; False is the paper's cross entropy [True]"""
    conditional: bool
    """the discriminator sees the classifier's class [True]"""
    spectral: bool
    """spectral normalisation of the discriminator; the paper has none [True]"""
    shifts: Literal["discriminator", "both", "none"]
    """whose steps see images shifted by a few pixels: the discriminator's, the generator's too, or none
    ['discriminator']
    """
    warm_up: float
    """share of the steps spent on reconstruction alone [0.15]"""
    learning_rate: float
    """Adam's, for encoder and generator [0.001]"""
    critic_rate: float
    """Adam's, for the critic that begins as a copy of the classifier [0.0003]"""
    discriminator_rate: float
    """Adam's, for the discriminator [0.0008]"""
    schedule: Literal["decayed", "constant"]
    """learning rates that warm up and fall, or stay as they are ['decayed']"""
    clip: float | None
    """largest norm of a gradient; None: no limit [5.0]"""
    ema: float
    """decay of the averaged weights that are kept [0.998]"""
    mse_weight: float
    """squared error of the reconstruction [40.0]"""
    l1_weight: float
    """absolute error of the reconstruction [10.0]"""
    feature_weight: float
    """the classifier's penultimate features of the reconstruction [0.2]"""
    logit_weight: float
    """the classifier's logits of the reconstruction [0.1]"""
    class_weight: float
    """the classifier's class of edits and samples (lambda in the paper) [0.5]"""
    critic_weight: float
    """the critic that begins as the classifier's copy; 0: none [0.2]"""
    adversarial_weight: float
    """the discriminator; 0 leaves it out [0.04]"""
    sparsity_weight: float
    """absolute change that an edit makes [1.5]"""
    cycle_weight: float
    """edits and samples keep the z1 that they were made from [0.1]"""

class SVAEOptions(TypedDict, total=False):
    """Options of ``svae``; a docstring beside each says what it is, and its default."""

    variant: Literal["svae", "semivae"]
    """the supervised VAE, or the baseline M2 ['svae']"""
    steps: int
    """training steps [3000]"""
    batch_size: int
    """inputs per step [128]"""
    class_code: int
    """width of z1, the class evidence (M2 has one dimension per class) [6]"""
    nuisance_code: int
    """width of z2, everything else [16]"""
    network: Literal["auto", "dense", "convolutional"]
    """kind of networks; auto is dense up to 4096 values an input ['auto']"""
    hidden: int
    """width of the hidden layers; convolutions have a 20th as many channels [512]"""
    alpha: float | None
    """weight of the class loss; None: a quarter of the values per input, at least 10 [None]"""
    beta: float
    """generation against classification; at 1 q(z|x) is not trained [0.5]"""
    noise: float
    """variance of the likelihood, as a share of the data's [0.16]"""
    soft: bool
    """learn the classifier's probabilities; False learns its decision alone (paper) [True]"""
    predictive_weight: float
    """class loss through q(z|x), relative to alpha; 0 in the paper [1.0]"""
    evidence_price: float
    """added weight of z1's KL, so that style goes to z2, where it can be varied; 0 in the paper [3.0]"""
    consistency: float
    """weight, relative to alpha, of the same class being seen whatever z2 is; 0 in the paper [0.5]"""
    consistency_rows: int
    """inputs per step on which the classifier is asked [40]"""
    consistency_scale: float
    """largest standard deviation of z2 when it is asked [3.5]"""
    variants: Literal["around", "redrawn"]
    """invariances draw z2 around the input's own, or anew from N(0, scale^2) (paper) ['around']"""
    learning_rate: float
    """Adam's [0.0015]"""
    ema: float
    """decay of the averaged weights that are kept [0.998]"""

class NoSuchOption:
    """What a call comes to whose backend has no such option, or whose option takes another type: an error.

    ``xlens fit --help`` and an editor list what there is.
    """

@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["dif"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[DIFOptions],
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["flow"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[RectifiedFlowOptions],
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["ilvm"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[ILVMOptions],
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["infill"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[InfillOptions],
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["introvac"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[IntroVACOptions],
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["jlvm"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[JLVMOptions],
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["medxgan"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[MedXGANOptions],
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["svae"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Unpack[SVAEOptions],
) -> LensExplainer: ...
@overload
@deprecated("this backend has no such option, or it takes a value of another type")
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Literal["dif", "flow", "ilvm", "infill", "introvac", "jlvm", "medxgan", "svae"],
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Any,
) -> NoSuchOption: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: Backend,
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: None = None,
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
) -> LensExplainer: ...
@overload
def fit(
    model: nn.Module | Classifier,
    data: Any,
    backend: str,
    *,
    side_info: Any = None,
    over: Explainer | None = None,
    start_from: Explainer | None = None,
    supervision: Literal["classifier", "labels"] = "classifier",
    mask: MaskOptions | None = None,
    decoder: bool | DecoderOptions = False,
    codec: Literal["none", "auto"] | CodecOptions | nn.Module = "none",
    surrogate: Literal["none", "auto"] | SurrogateOptions = "auto",
    seed: int = 0,
    device: str | torch.device | None = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    on_step: Callable[[StepEvent], None] | None = None,
    progress: bool | None = None,
    mixed_precision: Literal["no", "bf16"] = "no",
    **options: Any,
) -> LensExplainer: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["dif"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[DIFOptions],
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["flow"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[RectifiedFlowOptions],
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["ilvm"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[ILVMOptions],
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["infill"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[InfillOptions],
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["introvac"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[IntroVACOptions],
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["jlvm"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[JLVMOptions],
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["medxgan"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[MedXGANOptions],
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["svae"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Unpack[SVAEOptions],
) -> Explanation: ...
@overload
@deprecated("this backend has no such option, or it takes a value of another type")
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Literal["dif", "flow", "ilvm", "infill", "introvac", "jlvm", "medxgan", "svae"],
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Any,
) -> NoSuchOption: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: Backend,
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: None = None,
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
) -> Explanation: ...
@overload
def explain(
    model: nn.Module | Classifier,
    images: Any,
    *,
    data: Any = None,
    backend: str,
    target: Classes | None = None,
    contrast: Classes | None = None,
    attributions: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("lig",),
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Explanation: ...
