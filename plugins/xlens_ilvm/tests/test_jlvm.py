"""The JLVM lens on scikit-learn's digits."""

import warnings

import torch
from on_digits import HELD, codes_of
from torch import nn

import xlens
from xlens.errors import XlensWarning
from xlens.metrics import interpretability


def test_jlvm_reads_attributes_and_its_counterfactuals_flip(digits, flat, some):
    (images, model), table = flat, digits[2]
    found = xlens.fit(
        model, images[:HELD], "jlvm", side_info=some, attributes=("digit", "ink"), steps=300, hidden=128,
        code=20, progress=False,
    )  # fmt: skip
    codes = codes_of(found, images[HELD:])
    one_hot = nn.functional.one_hot(table[HELD:, 0].long(), 10)
    figures = interpretability(codes, torch.cat([one_hot, table[HELD:, 1:]], 1))
    assert float(figures.accuracy[:10].mean()) > 0.9
    assert int(figures.dims[10]) == 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XlensWarning)
        explanation = found.explain(images[HELD : HELD + 24], n_steps=4, tolerance=0.5)
    assert float(explanation.fidelity.decoding_flips.float().mean()) > 0.6
    # What it draws is of its class, and has as much ink as it is told.
    drawn = found.sample(30)
    with torch.no_grad(), found.classifier.frozen():
        seen = found.classifier(drawn).argmax(1)
    assert float((seen == torch.arange(30) % 10).float().mean()) > 0.8
    ink = [found.sample(30, attributes={"ink": value}).mean() for value in (-2.0, 0.0, 2.0)]
    assert abs(float(ink[2] - ink[0])) > abs(float(ink[1] - ink[0])) > 0.01


def test_a_learned_prior_is_closer_to_the_codes_than_a_fixed_one():
    """KL against torch.distributions."""
    from torch.distributions import Normal, kl_divergence
    from xlens_ilvm.jlvm import JLVMNetworks

    spec = xlens.Spec(
        shape=(3,), num_classes=2, minimum=(0.0,), maximum=(1.0,), mean=(0.5,), std=(1.0,),
        class_margins=((0.0, 1.0), (1.0, 0.0)),
    )  # fmt: skip
    networks = JLVMNetworks(spec, 4, 8, 4, True)
    with torch.no_grad():
        networks.mean.normal_()
        networks.log_variance.normal_()
    mean, log_variance = torch.randn(5, 4), torch.randn(5, 4)
    q = Normal(mean, (0.5 * log_variance).exp())
    prior, compression = networks.divergences(mean, log_variance, True)
    torch.testing.assert_close(prior, kl_divergence(q, Normal(0.0, 1.0)))
    learned = Normal(networks.mean, (0.5 * networks.log_variance).exp())
    torch.testing.assert_close(compression, kl_divergence(q, learned))
    fixed = networks.divergences(mean, log_variance, False)
    assert torch.equal(*fixed)
