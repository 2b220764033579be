"""Trains the transformer and the text encoder together by flow matching, on cached latents.

Conventions are those of diffusers' `LTXConditionPipeline`: x = (1 - sigma) * clean + sigma * noise,
the network is asked for noise - clean, timesteps are 1000 * sigma per token, and tokens of given
frames are clean at timestep 0. Rotary coordinates are pixels and seconds.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from diffusers import LTXConditionPipeline
from diffusers.models.transformers.transformer_ltx import LTXVideoAttnProcessor, apply_rotary_emb
from torch import distributed
from torch.nn import functional

from tiny_shapes import checkpoint
from tiny_shapes.architecture import (
    SPATIAL,
    TEMPORAL,
    build_scheduler,
    build_text_encoder,
    build_transformer,
    latent_size,
)
from tiny_shapes.evaluate import GUIDANCE, STEPS, evaluate_t2v, format_row, tally
from tiny_shapes.latents import LatentCache, load_frozen
from tiny_shapes.muon import Muon, split_weights
from tiny_shapes.prompts import FPS, MENU, Shape, all_descriptions
from tiny_shapes.render import description_of
from tiny_shapes.text import build_tokenizer

SHAPE_SHARES = (0.31, 0.23, 0.25, 0.21)
MODE_SHARES = {"t2v": 0.60, "i2v": 0.28, "extend": 0.12}
PROMPT_DROPOUT = 0.1


def video_coordinates(shape: Shape) -> torch.Tensor:
    """Rotary coordinates [1, 3, tokens] exactly as the pipeline makes them."""
    frames, rows, columns = latent_size(shape.width, shape.height, shape.frames)
    ids = LTXConditionPipeline._prepare_video_ids(1, frames, rows, columns)
    coordinates = LTXConditionPipeline._scale_video_ids(ids, SPATIAL, TEMPORAL).float()
    coordinates[:, 0] *= 1.0 / FPS
    return coordinates


def draw_sigmas(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels [count]: all of them, more of the upper half, where outlines are decided.

    Place, direction and colour are decided higher still, but those are learned first anyway.
    """
    high = torch.sigmoid(0.7 + 1.2 * torch.randn(count, generator=generator))
    even = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.65, high, even)


class Float32Attention(LTXVideoAttnProcessor):
    """The stock attention with its softmax part in float32 under autocast.

    On CPUs the bfloat16 kernel's backward pass is six times slower than the float32 one, which
    would eat all that bfloat16 matrix products save. Only training uses this.
    """

    def __call__(
        self,
        attn: torch.nn.Module,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Attention over `hidden_states` [B, S, D], or from it to text."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states).float())
        key = attn.norm_k(attn.to_k(context).float())
        value = attn.to_v(context).float()
        if image_rotary_emb is not None:
            query = apply_rotary_emb(query, image_rotary_emb)
            key = apply_rotary_emb(key, image_rotary_emb)
        query, key, value = (
            part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        if attention_mask is not None:
            attention_mask = attention_mask.float()[:, None]
        with torch.autocast("cpu", enabled=False):
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask
            )
        return attn.to_out[0](attended.transpose(1, 2).flatten(2))


class PromptTable:
    """Token ids of prompts by attributes, without the padding that attention would mask anyway."""

    def __init__(self) -> None:
        self.tokenizer = build_tokenizer()

    def encode(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, both [B, longest]."""
        batch = self.tokenizer(prompts, padding="longest", return_tensors="pt")
        return batch.input_ids, batch.attention_mask


class Trainer:
    """Models, their running average and optimisers; randomness depends on seed and step only."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        self.prompts = PromptTable()
        self.transformer = build_transformer()
        self.text_encoder = build_text_encoder(len(self.prompts.tokenizer))
        self.models = torch.nn.ModuleDict(
            {"transformer": self.transformer, "text_encoder": self.text_encoder}
        )
        self.average = copy.deepcopy(self.models).requires_grad_(False)
        self.transformer.set_attn_processor(Float32Attention())
        inner, rest = split_weights(
            self.models, excluded=("proj_in", "proj_out", "shared", "embed", "bias")
        )
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0),
            Muon(inner, lr=args.lr, decay=args.decay),
        ]
        self.caches = {
            folder: [LatentCache(folder, shape) for shape in MENU]
            for folder in {args.cache, args.text_cache or args.cache}
        }
        self.coordinates = [video_coordinates(shape) for shape in MENU]
        self.step = 0
        self.cooldown_from: int | None = None

    def state(self) -> dict:
        """Everything that `load` needs to go on."""
        return {
            "step": self.step,
            "models": {name: model.state_dict() for name, model in self.models.items()},
            "average": {name: model.state_dict() for name, model in self.average.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: dict) -> None:
        """Goes on where `state` was taken."""
        self.step = state["step"]
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name], strict=False)
            self.average[name].load_state_dict(state["average"][name], strict=False)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def load_model(self, folder: Path) -> None:
        """Starts from an exported model; its optimisers and step count are gone."""
        for name, model in self.models.items():
            saved = type(model).from_pretrained(folder, subfolder=name)
            model.load_state_dict(saved.state_dict())
            self.average[name].load_state_dict(saved.state_dict())

    def _loss(
        self,
        clean: torch.Tensor,
        noise: torch.Tensor,
        sigma: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        coordinates: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared error per token [B, S]; `clean`, `noise` [B, S, C]; `sigma` [B, 1 or S]."""
        noisy = clean + sigma[..., None] * (noise - clean)
        text = self.text_encoder(ids, attention_mask=mask)[0]
        output = self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=text,
            timestep=sigma * 1000,
            encoder_attention_mask=mask,
            video_coords=coordinates,
            return_dict=False,
        )[0]
        return (output - (noise - clean)).square().mean(dim=-1)

    def draw_batch(self, generator: torch.Generator) -> tuple[tuple[torch.Tensor, ...], int, str]:
        """Inputs of `_loss`, the number of given tokens and the mode."""
        rand = torch.rand(2, generator=generator).tolist()
        at = int(torch.multinomial(torch.tensor(SHAPE_SHARES), 1, generator=generator))
        shape = MENU[at]
        frames, rows, columns = latent_size(shape.width, shape.height, shape.frames)
        batch = self.args.tokens // (frames * rows * columns)
        mode, given = "t2v", 0
        if rand[0] < MODE_SHARES["i2v"]:
            mode, given = "i2v", 1
        elif rand[0] < MODE_SHARES["i2v"] + MODE_SHARES["extend"]:
            mode, given = "extend", 2 + int(rand[1] * 2)
        given *= rows * columns
        folder = self.args.cache if given else self.args.text_cache or self.args.cache
        latents, attributes = self.caches[folder][at].draw(batch, generator)
        clean = latents.flatten(2).mT.contiguous()
        noise = torch.randn(clean.shape, generator=generator)
        sigma = draw_sigmas(batch, generator)[:, None]
        if given:
            sigma = sigma.repeat(1, clean.shape[1])
            sigma[:, :given] = 0
        dropped = torch.rand(batch, generator=generator) < PROMPT_DROPOUT
        prompts = [
            "" if drop else description_of(one).prompt
            for drop, one in zip(dropped.tolist(), attributes, strict=True)
        ]
        ids, mask = self.prompts.encode(prompts)
        coordinates = self.coordinates[at].expand(batch, -1, -1)
        return (clean, noise, sigma, ids, mask, coordinates), given, mode

    def learning_rate(self) -> float:
        """Warm-up, then constant; a straight line to zero once a cool-down has begun."""
        rate = self.args.lr * min(1.0, (self.step + 1) / 200)
        if self.cooldown_from is not None:
            left = self.cooldown_from + self.args.cooldown - self.step
            rate *= max(0.01, left / self.args.cooldown)
        return rate

    def run_step(self) -> tuple[str, float]:
        """One update; returns the mode of its batch and the loss."""
        args = self.args
        place = self.step * args.processes + args.rank
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + place)
        inputs, given, mode = self.draw_batch(generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = self._loss(*inputs)[:, given:].mean()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate()
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if args.processes > 1:
            self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self.models.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._update_average()
        return mode, loss.item()

    @torch.no_grad()
    def _share_gradients(self) -> None:
        """Averages gradients over the processes; a weight without one counts as zero."""
        weights = list(self.models.parameters())
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.args.processes
        parts = flat.split([weight.numel() for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.grad = part.view_as(weight)

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.args.average, self.step / (self.step + 10))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.models.parameters()), 1 - keep
        )


def averaged_pipeline(trainer: Trainer, vae_path: Path) -> LTXConditionPipeline:
    """The pipeline with the running average of the weights."""
    pipeline = LTXConditionPipeline(
        scheduler=build_scheduler(),
        vae=load_frozen(vae_path),
        text_encoder=trainer.average["text_encoder"],
        tokenizer=trainer.prompts.tokenizer,
        transformer=trainer.average["transformer"],
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--cache", type=Path, required=True, help="folder made by `latents`")
    parser.add_argument(
        "--text-cache",
        type=Path,
        default=None,
        help="another folder for clips made from text alone",
    )
    parser.add_argument("--vae", type=Path, required=True, help="checkpoint or model directory")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument(
        "--from-model", type=Path, default=None, help="start with the weights of this directory"
    )
    parser.add_argument("--steps", type=int, default=40000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--average", type=float, default=0.999)
    parser.add_argument(
        "--cooldown", type=int, default=0, help="lower the rate over this many steps"
    )
    parser.add_argument("--cooldown-from", type=int, default=None, help="default: where it is")
    parser.add_argument("--bf16", action="store_true", help="matrix products in bfloat16")
    parser.add_argument("--tokens", type=int, default=2560, help="latent tokens in a batch")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--processes", type=int, default=1, help="train together; start each with its own --rank"
    )
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=250)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--judge-every", type=int, default=1000)
    return parser.parse_args()


def main() -> None:
    """Trains to the last step with a log line and now and then a judged handful of videos."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    if args.processes > 1:
        # On a busy machine single-threaded processes that meet once a step beat threads that meet
        # in every operation.
        meeting = f"file://{(args.out / 'meeting').resolve()}"
        distributed.init_process_group(
            "gloo", init_method=meeting, world_size=args.processes, rank=args.rank
        )
    trainer = Trainer(args)
    path = args.out / "denoiser.safetensors"
    if args.from_model:
        trainer.load_model(args.from_model)
    if args.resume and path.exists():
        trainer.load(checkpoint.load(path))
    last = args.steps
    if args.cooldown:
        trainer.cooldown_from = args.cooldown_from or trainer.step
        last = trainer.cooldown_from + args.cooldown
    wanted = all_descriptions()[::6]
    began, losses = time.monotonic(), {}
    while trainer.step < last:
        mode, loss = trainer.run_step()
        losses.setdefault(mode, []).append(loss)
        if trainer.step % args.log_every == 0:
            for caches in trainer.caches.values():
                for cache in caches:
                    cache.refresh()
        if args.rank > 0:
            continue
        if trainer.step % args.log_every == 0:
            pace = (time.monotonic() - began) / args.log_every
            means = " ".join(
                f"{name} {sum(losses[name]) / len(losses[name]):.4f}" for name in sorted(losses)
            )
            print(
                f"step {trainer.step}/{last} {means} {pace:.3f} s/step "
                f"{pace * (last - trainer.step) / 60:.0f} min left",
                flush=True,
            )
            began, losses = time.monotonic(), {}
        if trainer.step % args.save_every == 0 or trainer.step == last:
            checkpoint.save(path, trainer.state())
        if trainer.step % args.judge_every == 0 or trainer.step == last:
            pipeline = averaged_pipeline(trainer, args.vae)
            results, _ = evaluate_t2v(
                pipeline, wanted, MENU[0], steps=STEPS, guidance=GUIDANCE, seed=0
            )
            print(format_row(f"judge {trainer.step}", tally(results)), flush=True)
            began = time.monotonic()


if __name__ == "__main__":
    main()
