"""What the page of the ground-truth benchmark says in words."""

HEAD = """# Ground truth: which explanation is true?

`python -m benchmarks.ground_truth --run TASK SEED LENS` for each row of the first table, then `--page`.

Fashion-MNIST, all ten classes, half of the images with a planted cause at a random place inside the object
(`xlens.datasets.planted`: a soft **blob**, a **scratch**, a patch of **texture**), 16,000 training images;
rendered **cups** with and without a handle (`xlens.datasets.parts`); and two tasks where no truth is known: a
look-alike **pair**, coats and shirts, and ELPV **solar** cells. The classifier and two judges of other topology
are trained
independently. Explained are the first held-out images that the classifier gets right and that have the cause:
{validation} to
choose the map, the next {test} to score it. What is scored:

- **pointing**: the largest magnitude lies inside the mask. **IoU**: of the mask and as many of the largest
  magnitudes; "smoothed" under a Gaussian of {smoothing:g} pixel, the same for every method. **mass**: share of
  the magnitude inside. **rank**: share of as many of the largest magnitudes that lie inside.
- **deletion, insertion, DiffID**: pixels are exchanged for the data's mean in {steps} steps, by signed
  attribution; "true fill": for the true original; "own fill": for the lens's counterfactual. **drop**: fall of
  the classifier's probability when the 5% most salient pixels become mean grey.
- **sparseness**: Gini index. **randomised**: rank correlation with the map for the classifier with shuffled
  weights (first
  32 inputs); a map that stays at 1 does not look at the classifier.
- `METHOD:BASELINE` is Captum's from that baseline; `nearest` is the nearest real input of the contrast class,
  `clean` the true original: the **ceiling**, which nobody has in practice. A lens's `occlusion` covers with its
  counterfactual.
"""

ASKED = """\
Figures of the lens on all its inputs, by how its change is carried onto the input. A judge counts on inputs
that it calls positive before the edit; "unedited" is its share of contrast class before any edit; "true
original" what it says of the images before the cause was planted. **A high figure on the classifier alone is no
success.**
"trustworthy, the classifier shuffled" is the share of explanations that still claim to hold when the
classifier's weights are shuffled
behind the lens's back; it has to be near 0.

Judge B calls about a tenth of the true originals positive, so that .95 is beyond anybody there: read each figure
beside that of the true originals."""

WHEN = """## When to prefer something else

- **No time or data for a lens**: IG from the nearest real input of the contrast class costs a search and no
  training, and is the nearest to a lens over all causes; Grad-CAM at the end of the last convolution's resolution
  costs one backward pass, points about as well on blobs and textures, less on scratches, and beside every handle of
  a cup (.01); it is as coarse as that layer. Where these come close on your data, a lens is not worth its fit; read
  the differences above.
- **Occlusion** needs no gradient and no layer. It points far less well on small causes, whose size its window
  exceeds, and nearly as well on textures. Prefer it for models that give nothing but scores.
- **Plain IG from black or mean** answers another question: what there is, against nothing at all. On a texture,
  which is evidence wherever it lies, it points as well as a lens; on a blob or scratch that is darker than what it
  covers it points elsewhere. Prefer it where black really is absence, and for its exact sum.
- **Do not choose by DiffID or the drop with grey pixels.** They reward what hurts the classifier, and a grey
  patch hurts the classifier as a
  cause does: IG from the true original, which is right by construction, is worse than a random map in DiffID on
  blobs and scratches, and IG from black or mean is near the top. With the true original as fill they change places.
- **Occlusion with the lens's counterfactual** as its fill is the sharpest map at the mask's area on blobs and
  textures, and needs no gradient; its mass is lower than that of `lig`.
- **`randomised` of a lens's maps stays higher** than that of other maps, because the lens keeps its edit, and with
  it the map's support, when only the classifier's weights are exchanged: read "trustworthy, the classifier
  shuffled" beside it.
- **Which lens**: medXGAN's, for causes like these. IntroVAC's points nearly as well on blobs, but the classifier
  does not see
  the blob in what it reconstructs, and its explanations say that they do not hold (trustworthy .17). DIF's and
  JLVM's lose the blob as well (.28, .09), and SVAE's edits change much else (.21 of them lies inside the mask).
- **Look at the pictures**: of a cup x' loses the handle but for a trace of its rim; on textures it keeps
  faint stripes that the classifier and both judges let pass; on solar cells it lightens dark corners and spots,
  partly with a
  grid of dots, and leaves every crack, while the judges follow on three of four edits."""

TRIED = """## What was tried for scratches

Scratches stay behind blobs and textures; IG from the true original reaches an IoU of .73 there neither raw nor
smoothed. What else was tried on one lens (seed 0), measured once on 120 held-out inputs that are neither the
validation nor the test inputs; these ways are not part of the benchmark:

| way | pointing | IoU | IoU, smoothed | mass | judges A / B on x' |
|---|---|---|---|---|---|
| as it is | .850 | .411 | .505 | .620 | .948 / .827 |
| codes improved by 50 steps of inversion | .825 | .406 | .512 | .624 | .948 / .837 |
| codes improved by 200 | .817 | .400 | .505 | .603 | .948 / .865 |
| codes found from random starts, 300 steps | .650 | .297 | .403 | .451 | .862 / .683 |
| each input's mask optimised, 40 steps, the margin at full weight | .875 | .484 | .550 | .780 | .664 / .462 |
| the same, margin at a third of the weight | .892 | .530 | .541 | .845 | .405 / .327 |
| the path that the classifier responds to least (`guided_ig`) | .850 | .409 | .510 | .621 | the same x' |
| the mask closing from its edge inwards, as path | .892 | .395 | .526 | .637 | the same x' |

An edit that is optimised against the classifier for one input points better and convinces no judge: it finds
what the classifier reacts to,
not what is there. Paths hardly matter, the edit does. What misses is G(z0), which smooths the whole object, where
a stripe of it looks like a scratch."""

MISSING = """## What is missing

Asked were all lenses on all tasks. The first table says what was run; the commands for the rest are the same.
Intervals are over inputs of these cells alone, and of few seeds.
Lenses have their defaults, but for `linear=False` of medXGAN, whose reason is on
[its page](../benchmarks.md); no setting was chosen on the test inputs."""
