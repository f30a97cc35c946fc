"""All nine experiments, by name."""

from bncourse.reproduce import batch_size, correlation, curves, landscape, lp, lr_range, noisy, normalizers, shift

EXPERIMENTS = {module.EXPERIMENT.name: module.EXPERIMENT for module in
               (curves, noisy, shift, landscape, lp, lr_range, batch_size, normalizers, correlation)}
