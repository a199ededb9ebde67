"""What a GPU says about the project: ``python -m tests.gpu``, one prepared run of at most eight minutes.

It needs one GPU, the checkout as working directory and no network. Every part is a process under its own time limit,
so a part that fails or hangs hides no other. ``FOLDER`` of ``--out`` gets report.md, figures.json and log.txt, all
written anew after each part. The script reads the card as it is and changes none of its settings.

====================  ==============================================================================================
part                  what it shows
====================  ==============================================================================================
contract              the tests marked ``gpu`` (tests/trainables/test_contract.py) pass on the GPU
agreement             with the same weights, images and noise, GPU and CPU give the same loss and pictures
waits                 which lines of a training step wait for the GPU
bench                 milliseconds, images a second and GiB of a step of the published configuration
study                 a study of SPACE with two trials on the GPU at a time, bf16, out of memory, and its checkpoint on
                      a CPU
sharing               images a second of 1, 2 and 4 trials on the GPU at a time
compiled              the bench of a few models under torch.compile
====================  ==============================================================================================

A machine without Ray takes it from a pack, made where there is network: ``python -m tests.gpu --pack .gpu``.
"""
