"""What somebody types in the folder of the fixture ``here``."""

FIT = [
    "fit",
    "my_models:net",
    "--weights",
    "net.safetensors",
    "--backend",
    "toy",
    "--mask-steps",
    "3",
    "-o",
    "lens",
]


EXPLAIN = ["explain", "lens", "--model", "my_models:net", "--weights", "net.safetensors"]


#: Takes [0, 1] to the toy's range, -3 to 2.
SCALE = ["--mode", "grey", "--mean", "0.6", "--std", "0.2"]
