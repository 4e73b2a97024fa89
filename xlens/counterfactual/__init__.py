"""How a lens's change reaches a real input: the edit, the mask, and the formulas that carry one by the other."""

from xlens.counterfactual.carry import CarriedCurve, Carry
from xlens.counterfactual.edit import Edit, make_edit
from xlens.counterfactual.fit_mask import fit_edit_mask
from xlens.counterfactual.mask import EditMask
from xlens.counterfactual.mask_options import MaskOptions

__all__ = ["CarriedCurve", "Carry", "Edit", "EditMask", "MaskOptions", "fit_edit_mask", "make_edit"]
