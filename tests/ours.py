"""Small instances of the backends that ship with xlens, whichever they are."""

import dataclasses

import xlens
from xlens.registry.installed import entries
from xlens.registry.loading import load_backend

__all__ = ["LAYERS", "OPTIONS", "OURS", "TRAINED", "VARIANTS", "around", "mask_for"]

#: Name -> options of the small instance, and of the one that learns the toy world. A backend that is not named here
#: is checked all the same, as `candidate` says.
OPTIONS = {
    "dif": (
        {"steps": 8, "hidden": 32, "code": 8, "batch_size": 16, "restarts": 0},
        {"steps": 500, "hidden": 256, "batch_size": 64},
    ),
    "flow": (
        {"steps": 8, "width": 4, "hidden": 16, "ode_steps": 2, "batch_size": 16},
        {"steps": 250, "width": 8, "ode_steps": 4, "learning_rate": 4e-3},
    ),
    "ilvm": (
        {"steps": 8, "hidden": 8, "code": 16, "bank": 60, "teaching_steps": 4, "batch_size": 32},
        {"steps": 400, "hidden": 32},
    ),
    "infill": (
        {"survey": 60, "words": 24, "parts": 3},
        {"largest": 1.0},
    ),
    "jlvm": (
        {"steps": 8, "hidden": 32, "code": 8, "batch_size": 16},
        {"steps": 400, "hidden": 256},
    ),
    "medxgan": (
        {"steps": 8, "width": 4, "nuisance_code": 8, "class_code": 4, "batch_size": 16},
        {"steps": 240, "width": 8},
    ),
    "introvac": (
        {"steps": 8, "hidden": 32, "code": 8, "langevin_steps": 8, "batch_size": 16, "restarts": 0},
        # A class is a patch here, which absolute errors leave out: only the game brings it in, with twice the
        # reconstruction's pull. At 1 a pair of classes fails to flip; at the default of .5 samples fail, too.
        {"steps": 400, "hidden": 128, "game_share": 2.0},
    ),
    "svae": (
        {"steps": 8, "hidden": 16, "class_code": 3, "nuisance_code": 4, "batch_size": 16, "consistency_rows": 4},
        {"steps": 400, "hidden": 192, "batch_size": 96},
    ),
}

#: Name -> options beside those of the small instance, for code that it does not reach.
VARIANTS = {
    "infill": {"fill": "learned", "steps": 4, "width": 2, "batch_size": 8},
    "medxgan": {"encoder": False, "inversion_steps": 8},
}

#: Name -> the hidden layer that it works on.
LAYERS = {"ilvm": "body.3"}


def around(model, name):
    """Return the classifier as a backend of that name wants it: with the layer that it works on, if on any."""
    return xlens.Classifier(model, layer=LAYERS.get(name))


def mask_for(name, mask):
    """Return how the mask is fitted, where a backend of that name gets any: not on a hidden layer."""
    return None if name in LAYERS else mask


OURS = [name for name, entry in entries().items() if any(d.split()[0] == "xlens" for d in entry.distributions)]


def _is_trained(name):
    """Whether the fit of the small instance takes steps: options may be of a part that it does without."""
    if name in OPTIONS:
        return "steps" in OPTIONS[name][0]
    return any(field.name == "steps" for field in dataclasses.fields(load_backend(name)))


#: Those whose fit takes steps.
TRAINED = [name for name in OURS if _is_trained(name)]
