"""What the help of each command ends with."""

from __future__ import annotations

__all__ = [
    "AUDIT_EPILOG",
    "EPILOG",
    "EVALUATE_EPILOG",
    "EXPLAIN_EPILOG",
    "FIT_EPILOG",
    "LABEL_EPILOG",
    "PUSH_EPILOG",
]

EPILOG = """\
exit codes:
  0    done
  1    explain --strict: an explanation does not hold; nothing else ends with 1
  2    something is wrong; standard error says in one line what, and what to do
  3    an error that xlens did not foresee; standard error has its traceback
  130  interrupted
  141  whoever read standard output has gone

With --json, standard output is JSON alone: whatever your own code prints goes to standard error.
eval "$(register-python-argcomplete xlens)" lets bash or zsh complete commands, options and names of backends.

examples:
  xlens demo
  xlens demo --data fashion-mnist
  xlens backends --json
  xlens backends NAME
  xlens fit mymodels:load_resnet photos/ --backend NAME --size 64 -o lens/
  xlens explain lens/ photos/cat/*.png --model mymodels:load_resnet --html why.html
  xlens evaluate lens/ photos/ --model mymodels:load_resnet --oracle mymodels:load_other
  xlens audit lens/ photos/ --model mymodels:load_resnet --html audit.html
  xlens explain hf://owner/name@v1 photos/ --model mymodels:load_resnet
"""
FIT_EPILOG = """\
examples:
  xlens fit mymodels:load_resnet photos/ --backend NAME --size 64 -o lens/
  xlens fit timm:resnet18 photos/ --weights resnet18.safetensors --size 64 \\
      --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --backend NAME --option steps=300 -o lens/
  xlens fit mymodels:load_resnet data.npz --backend NAME -o lens/ --checkpoints run/ --resume
  xlens fit mymodels:load_resnet photos/ --layer avgpool --decoder --backend NAME -o layer_lens/
  xlens fit mymodels:load_resnet photos/ --codec mymodels:load_autoencoder --size 224 --backend NAME -o lens/
  xlens fit mymodels:load_chest photos/ --outputs multilabel --labels edema effusion --label edema --size 64 \\
      --backend NAME -o edema/

DATA is one of
  a folder of images, or of one folder of images per class
  an .npz with inputs under x, X, images or inputs; an .npy
  a .pt that holds a tensor, (X, y), or a dict with inputs
Folders per class name the classes, in sorted order. That is compared with what MODEL says of the images, and
refused where another order fits much better; --class-names says the order itself. What a factory that returns an
xlens.Classifier leaves open, --layer, --outputs, --class-names, --labels, --label and --threshold fill; where they
contradict it, nothing is done.

Images are scaled to [0, 1], then (value - mean) / std. For timm:NAME, size, mean and std are timm's own if you say
nothing. Arrays of floats are taken as they are; arrays of bytes (n, 1 or 3, H, W) are prepared as images are.
Images are turned upright as their EXIF says; hidden files, such as ._photo.png, are left out; a file that holds
several images is refused. DICOM and NIfTI files are images too (pip install xlens[dicom], xlens[nifti]); of one
with several slices, --slice says which. How images were prepared is saved in the lens, so that `xlens explain`
prepares them alike. Which model it was is not: a file that names code to run is never obeyed, so `xlens explain`
asks for --model again, and refuses a model with other weights. So does --codec, of your own autoencoder.
"""
EXPLAIN_EPILOG = """\
examples:
  xlens explain lens/ photo.png --model mymodels:load_resnet --html why.html
  xlens explain lens/ photos/ --model timm:resnet18 --weights resnet18.safetensors --contrast cat --json
  xlens explain lens/ data.npz --model mymodels:load_resnet --html why.html --attribution lig ig_counterfactual

IMAGES are image files, folders of them, or one .npz, .npy or .pt. Only load models from places that you trust:
package.module:factory is imported and run.
"""
EVALUATE_EPILOG = """\
examples:
  xlens evaluate lens/ photos/ --model mymodels:load_resnet -n 200 --plot figures.png
  xlens evaluate lens/ data.npz --model mymodels:load_resnet --also other_lens/ --masks masks.npy \\
      --method lig integrated_gradients:black occlusion:mean random --oracle mymodels:load_other --json

Prints tables in Markdown. A METHOD:BASELINE is Captum's method from a baseline that needs no lens: black, mean or
blurred. What is not better than random, edges and constant says nothing.
"""
AUDIT_EPILOG = """\
examples:
  xlens audit lens/ photos/ --model mymodels:load_resnet --html audit.html --seconds 600
  xlens audit lens/ photos/ --model mymodels:load_resnet --checkpoints run/ --json
  xlens audit lens/ data.npz --model mymodels:load_resnet --masks objects.npy --metadata facts.csv

DATA is a folder of images, or of one folder of images per class, whose names are the true classes; or one array, as
for xlens fit. The table of --metadata has a column for each fact and a row for each input: in the order of the
array, or in any order with a column "file" that names the images. With --checkpoints the same command goes on from
where it was stopped.
"""
LABEL_EPILOG = """\
examples:
  xlens fit mymodels:load_resnet photos/ --layer fc1 --backend NAME --size 64 -o lens/ \\
      --option 'attributes=["striped"]' --option 'kinds=["binary"]'
  xlens label lens/ photos/ --model mymodels:load_resnet

Open the address that is printed; the page is served to this machine alone. Answers are kept in LENS/answers.json,
and the lens is saved after each round. Stop with Ctrl-C at any time: the same command goes on from there.
"""
PUSH_EPILOG = """\
examples:
  xlens push lens/ owner/name --model mymodels:load_resnet --dry-run look/ --judge photos/
  xlens push lens/ owner/name --model mymodels:load_resnet --license mit --private

What goes are the two files that xlens reads a lens from, safetensors and JSON, and a card; nothing else that lies
in LENS. What they keep of the data is said first. A lens that keeps real inputs, as those on a hidden layer do, is
sent with --with-data alone. MODEL is not sent. The account is that of `hf auth login`, or of HF_TOKEN.
"""
