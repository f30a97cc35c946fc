"""New images from old ones, on the device that holds them: the usual random crop and mirror image."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4  # pixels on each side, as is usual for images of 32×32


def crop_and_flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to 4 pixels in both directions and mirror half of them: (..., C, H, W) -> the same.

    What comes in at the edges is 0: the mean of the training images, since ``data`` centres them.
    """
    images = x.flatten(0, -4)  # (N, C, H, W)
    (count, _, height, width), device = images.shape, x.device

    def draw(below: int) -> Tensor:
        return torch.randint(below, (count, 1), generator=generator, device=device)

    rows = torch.arange(height, device=device) + draw(2 * PADDING + 1)  # (N, H): where each row of the result comes from
    columns = torch.arange(width, device=device)
    columns = torch.where(draw(2) == 1, columns.flip(0), columns) + draw(2 * PADDING + 1)
    padded = F.pad(images, [PADDING] * 4)
    of_each = torch.arange(count, device=device)[:, None, None]
    chosen = padded.movedim(1, -1)[of_each, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return chosen.movedim(-1, 1).reshape(x.shape)


# By name: (images, generator) -> images.
AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"crop-flip": crop_and_flip}
