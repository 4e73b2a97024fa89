"""What `import xlens` costs beside `import torch`: fresh processes, alternating, best of 7.

python -m benchmarks.engine.import_time
"""

import subprocess
import sys

CODE = "import time; a = time.perf_counter(); import torch{}; print(time.perf_counter() - a)"


def seconds(extra: str) -> float:
    return float(subprocess.run([sys.executable, "-c", CODE.format(extra)], capture_output=True, check=True).stdout)


pairs = [(seconds(""), seconds(", xlens")) for _ in range(7)]
alone, both = (min(values) for values in zip(*pairs, strict=True))
print("| import torch | import torch, xlens | ratio |\n|---|---|---|")
print(f"| {alone:.2f} s | {both:.2f} s | {both / alone:.3f} |")
