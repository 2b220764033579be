"""Encodes target clips once, so that training the denoiser never runs the autoencoder.

The encoder is deterministic and frozen by then; a cache per shape holds normalised latents in
float16 and the attributes that give each clip its prompt.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo
from safetensors.torch import load_file, save_file

from tiny_shapes import checkpoint
from tiny_shapes.architecture import LATENT_CHANNELS, build_vae, freeze_log_variance
from tiny_shapes.prompts import MENU, Shape
from tiny_shapes.render import random_attributes, render, target_scenes


@torch.no_grad()
def encode_targets(
    vae: AutoencoderKLLTXVideo,
    shape: Shape,
    count: int,
    generator: torch.Generator,
    grid: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw latents [count, C, F, H, W] and attributes [count, 4] of random target clips.

    Objects start at multiples of `grid` pixels.
    """
    latents, attributes = [], []
    while sum(len(part) for part in attributes) < count:
        drawn = random_attributes(16, generator)
        clip, _ = render(target_scenes(drawn, shape, generator, grid), shape)
        clip = clip.to(memory_format=torch.channels_last_3d)
        latents.append(vae.encoder(clip)[:, :LATENT_CHANNELS].contiguous())
        attributes.append(drawn)
    return torch.cat(latents)[:count], torch.cat(attributes)[:count]


def measure_statistics(vae: AutoencoderKLLTXVideo, seed: int) -> None:
    """Stores the mean and deviation of each latent channel over target clips in the autoencoder."""
    parts = []
    for shape in MENU:
        latents, _ = encode_targets(vae, shape, 256, torch.Generator().manual_seed(seed))
        parts.append(latents.movedim(1, 0).flatten(1))
    values = torch.cat(parts, dim=1)
    vae.latents_mean.copy_(values.mean(dim=1))
    vae.latents_std.copy_(values.std(dim=1))


def normalise(vae: AutoencoderKLLTXVideo, latents: torch.Tensor) -> torch.Tensor:
    """What the pipeline does to latents [B, C, F, H, W] before the transformer sees them."""
    mean = vae.latents_mean.view(1, -1, 1, 1, 1)
    return (latents - mean) / vae.latents_std.view(1, -1, 1, 1, 1)


def load_frozen(path: Path) -> AutoencoderKLLTXVideo:
    """The autoencoder of a checkpoint or of a model's directory, for encoding only."""
    if path.is_dir():
        vae = AutoencoderKLLTXVideo.from_pretrained(path, subfolder="vae")
    else:
        vae = build_vae()
        vae.load_state_dict(checkpoint.load(path)["vae"])
        freeze_log_variance(vae)
    vae.eval().requires_grad_(False)
    return vae.to(memory_format=torch.channels_last_3d)


class LatentCache:
    """Normalised latents [N, C, F, H, W] (float16) and attributes [N, 4] of one shape."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape = folder, shape
        self.latents = torch.empty(0)
        self.attributes = torch.empty(0)
        self._seen: list[Path] = []
        self.refresh()

    def refresh(self) -> bool:
        """Takes in parts that were written since; True when there were any."""
        paths = sorted(self.folder.glob(f"{self.shape.key}-*.safetensors"))
        if paths == self._seen:
            return False
        parts = [load_file(path) for path in paths]
        self.latents = torch.cat([part["latents"] for part in parts])
        self.attributes = torch.cat([part["attributes"] for part in parts]).long()
        self._seen = paths
        return True

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Random latents (float32) and their attributes."""
        at = torch.randint(len(self.latents), (count,), generator=generator)
        return self.latents[at].float(), self.attributes[at]


def main() -> None:
    """Measures the statistics into the checkpoint, then writes the caches part by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, required=True, help="checkpoint, or model directory")
    parser.add_argument("--out", type=Path, required=True, help="folder of the caches")
    parser.add_argument("--parts", type=int, default=6)
    parser.add_argument("--clips", type=int, default=4096, help="clips a part of the first shape")
    parser.add_argument("--grid", type=int, default=1, help="start at multiples of these pixels")
    parser.add_argument("--keep-statistics", action="store_true", help="they are measured already")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    vae = load_frozen(args.vae)
    if not args.keep_statistics and not args.vae.is_dir():
        measure_statistics(vae, args.seed)
        checkpoint.save(args.vae, {"vae": vae.state_dict()})
    print("deviation of latents", vae.latents_std.numpy().round(2).tolist(), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    for part in range(args.parts):
        for order, shape in enumerate(MENU):
            path = args.out / f"{shape.key}-{part:03d}.safetensors"
            if path.exists():
                continue
            began = time.monotonic()
            generator = torch.Generator().manual_seed(args.seed * 7919 + part * 31 + order)
            count = args.clips if order == 0 else args.clips // 4
            latents, attributes = encode_targets(vae, shape, count, generator, args.grid)
            tensors = {
                "latents": normalise(vae, latents).half().contiguous(),
                "attributes": attributes.to(torch.uint8),
            }
            partial = path.with_suffix(".partial")
            save_file(tensors, partial)
            partial.rename(path)
            print(f"{path.name}: {count} clips in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
