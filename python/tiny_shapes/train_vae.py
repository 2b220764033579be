"""Trains the autoencoder.

The trap: on plain target clips nearly every pixel is background, and the model collapses to it.
The remedy here has three parts: foreground (with a halo) and background each carry half of the
loss; early batches are small crowded canvases of random objects, which are also cheap; and the
crowd thins out into target clips at the sizes of the menu.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLLTXVideo

from tiny_shapes import checkpoint
from tiny_shapes.architecture import LATENT_CHANNELS, build_vae
from tiny_shapes.muon import Muon, split_weights
from tiny_shapes.prompts import MENU, Shape
from tiny_shapes.render import dense_scenes, random_attributes, render, target_scenes

SMALL = (Shape(32, 32, 9), Shape(32, 32, 17), Shape(48, 32, 9))
VOXELS = 32 * 32 * 32 * 9
"""Pixels times frames in a batch, whatever its canvas."""


def draw_batch(progress: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of clips [B, 3, F, H, W] and their foreground masks for `progress` in 0..1."""

    def chance(probability: float) -> bool:
        return torch.rand((), generator=generator).item() < probability

    def pick(options: tuple[Shape, ...]) -> Shape:
        return options[int(torch.randint(len(options), (), generator=generator))]

    small = chance(0.8 if progress < 0.35 else 0.2)
    shape = pick(SMALL) if small else pick(MENU)
    batch = max(4, VOXELS // (shape.width * shape.height * shape.frames))
    if not small and chance(min(0.9, 2.5 * progress)):
        attributes = random_attributes(batch, generator)
        return render(target_scenes(attributes, shape, generator), shape)
    count = 3 if progress < 0.35 else 2
    strangeness = max(0.05, 0.8 - 2 * progress)
    return render(dense_scenes(batch, count, strangeness, shape, generator), shape)


def reconstruction_loss(
    output: torch.Tensor, clip: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Balanced loss, and the plain mean absolute errors of foreground and background (range 2)."""
    foreground = mask.float()
    background = 1 - foreground
    error = (output - clip).abs()
    both = error + 2 * error * error
    channels = clip.shape[1]

    def mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return (values * weight).sum() / (weight.sum() * channels + 1)

    loss = 0.5 * mean(both, foreground) + 0.5 * mean(both, background)
    return loss, mean(error, foreground).detach(), mean(error, background).detach()


def load_encoder(vae: AutoencoderKLLTXVideo, path: Path) -> None:
    """Takes encoder and latent statistics from a checkpoint, whatever its decoder looks like."""
    saved = checkpoint.load(path)["vae"]
    wanted = {name: w for name, w in saved.items() if not name.startswith("decoder.")}
    vae.load_state_dict(wanted, strict=False)


def learning_rate(step: int, steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then a straight line to almost nothing."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * max(0.01, (steps - step) / (steps - warmup))


class VaeTrainer:
    """The autoencoder with its optimisers; everything random is a function of seed and step."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        self.vae: AutoencoderKLLTXVideo = build_vae().to(memory_format=torch.channels_last_3d)
        self.optimizers: list[torch.optim.Optimizer] = []
        parts = {self.vae.encoder: args.encoder_rate, self.vae.decoder: 1.0}
        for part, share in parts.items():
            if part is self.vae.encoder and args.decoder_only:
                part.requires_grad_(False)
                continue
            inner, rest = split_weights(part, excluded=("conv_in", "conv_out"))
            rates = {"lr": args.lr, "betas": (0.9, 0.98), "weight_decay": 0.0}
            self.optimizers += [torch.optim.AdamW(rest, **rates), Muon(inner, lr=args.lr)]
            for optimizer in self.optimizers[-2:]:
                for group in optimizer.param_groups:
                    group["share"] = share
        self.step = 0

    def state(self) -> dict:
        """Everything that `load` needs to go on."""
        return {
            "step": self.step,
            "vae": self.vae.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: dict) -> None:
        """Goes on where `state` was taken."""
        self.step = state["step"]
        self.vae.load_state_dict(state["vae"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def run_step(self) -> dict[str, float]:
        """One update; returns what the log shows."""
        args = self.args
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + self.step)
        progress = max(args.first_progress, self.step / args.steps)
        clip, mask = draw_batch(progress, generator)
        clip = clip.to(memory_format=torch.channels_last_3d)
        rate = learning_rate(self.step, args.steps, args.lr)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
        # The last tenth in full precision: edges get crisp only then.
        reduced = self.step < 0.9 * args.steps
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            with torch.set_grad_enabled(not args.decoder_only):
                latents = self.vae.encoder(clip)[:, :LATENT_CHANNELS].float()
            noise = torch.randn(latents.shape, generator=generator)
            strength = args.noise * torch.rand(len(clip), 1, 1, 1, 1, generator=generator)
            output = self.vae.decoder(latents + strength * noise)
        loss, foreground, background = reconstruction_loss(output.float(), clip, mask)
        size = latents.square().mean()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        (loss + args.latent_penalty * size).backward()
        torch.nn.utils.clip_grad_norm_(self.vae.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return {
            "loss": loss.item(),
            "foreground": foreground.item(),
            "background": background.item(),
            "latent_rms": math.sqrt(size.item()),
        }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--encoder-rate", type=float, default=1.0, help="share of --lr")
    parser.add_argument("--first-progress", type=float, default=0.0, help="skip early crowds")
    parser.add_argument("--encoder-from", type=Path, default=None, help="start with its encoder")
    parser.add_argument("--noise", type=float, default=0.1, help="largest latent noise")
    parser.add_argument("--latent-penalty", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--stop-at", type=int, default=None, help="stop early at this step")
    parser.add_argument("--decoder-only", action="store_true", help="leave the encoder as it is")
    return parser.parse_args()


def main() -> None:
    """Trains until the last step, printing one line every `--log-every` steps."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    trainer = VaeTrainer(args)
    path = args.out / "vae.safetensors"
    if args.encoder_from:
        load_encoder(trainer.vae, args.encoder_from)
    if args.resume and path.exists():
        trainer.load(checkpoint.load(path))
    last = args.stop_at or args.steps
    began, sums, count = time.monotonic(), {}, 0
    while trainer.step < last:
        for name, value in trainer.run_step().items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
        if trainer.step % args.log_every == 0 or trainer.step == last:
            means = " ".join(f"{name} {value / count:.4f}" for name, value in sums.items())
            pace = (time.monotonic() - began) / count
            left = pace * (last - trainer.step) / 60
            print(
                f"step {trainer.step}/{last} {means} {pace:.3f} s/step {left:.1f} min left",
                flush=True,
            )
            began, sums, count = time.monotonic(), {}, 0
        if trainer.step % args.save_every == 0 or trainer.step == last:
            checkpoint.save(path, trainer.state())


if __name__ == "__main__":
    main()
