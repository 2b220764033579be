"""Writes the model's directory in diffusers' format from checkpoints of training."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import LTXConditionPipeline

from tiny_shapes import checkpoint
from tiny_shapes.architecture import (
    build_scheduler,
    build_text_encoder,
    build_transformer,
    build_vae,
    freeze_log_variance,
)
from tiny_shapes.text import build_tokenizer


def build_pipeline() -> LTXConditionPipeline:
    """The whole pipeline with fresh weights."""
    tokenizer = build_tokenizer()
    return LTXConditionPipeline(
        scheduler=build_scheduler(),
        vae=build_vae(),
        text_encoder=build_text_encoder(len(tokenizer)),
        tokenizer=tokenizer,
        transformer=build_transformer(),
    )


def load_vae(pipeline: LTXConditionPipeline, path: Path) -> None:
    """Puts the autoencoder of a `train_vae` checkpoint into the pipeline."""
    pipeline.vae.load_state_dict(checkpoint.load(path)["vae"])
    freeze_log_variance(pipeline.vae)


def load_denoiser(pipeline: LTXConditionPipeline, path: Path) -> None:
    """Puts the averaged transformer and text encoder of a `train` checkpoint into the pipeline."""
    state = checkpoint.load(path)["average"]
    pipeline.transformer.load_state_dict(state["transformer"])
    pipeline.text_encoder.load_state_dict(state["text_encoder"], strict=False)
    pipeline.text_encoder.tie_weights()


def main() -> None:
    """Exports to a directory; parts without a checkpoint get fresh weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the model's directory")
    parser.add_argument("--vae", type=Path, default=None, help="checkpoint of train_vae")
    parser.add_argument("--denoiser", type=Path, default=None, help="checkpoint of train")
    args = parser.parse_args()
    torch.manual_seed(0)
    pipeline = build_pipeline()
    if args.vae:
        load_vae(pipeline, args.vae)
    if args.denoiser:
        load_denoiser(pipeline, args.denoiser)
    pipeline.save_pretrained(args.out)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
