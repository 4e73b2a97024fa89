"""Data in whatever form the user has them, as batches of float inputs that were checked."""

from xlens.data.attributes import Attributes, attributes_of
from xlens.data.batch import Batch
from xlens.data.slices import read_slice
from xlens.data.source import Data, as_data
from xlens.data.tables import as_inputs, side_info_table

__all__ = [
    "Attributes",
    "Batch",
    "Data",
    "as_data",
    "as_inputs",
    "attributes_of",
    "read_slice",
    "side_info_table",
]
