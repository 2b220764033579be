//! A model and a bundle of it that `reel serve` takes for real ones, for workers that look into neither.

use anyhow::Context;
use reel_bundle::{Cache, Digest, Model, RECIPE, SCHEMA, TORCH};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const MENU: &str = r#"
name = "nothing"
pipeline = "LTXConditionPipeline"
description = "It does nothing."
shapes = ["64x64@9f"]
modes = ["t2v"]
max_batch = 8
text_tokens = 32

[defaults]
shape = "64x64@9f"
fps = 8
num_inference_steps = 1
guidance_scale = 1.0
negative_prompt = ""
"#;
const ROLES: [&str; 3] = ["text_encoder", "transformer", "vae_decoder"];

/// Where the made-up things lie.
pub(crate) struct MadeUp {
    pub(crate) model: PathBuf,
    pub(crate) cache_dir: PathBuf,
}

/// Makes them under a directory.
pub(crate) fn make(dir: &Path) -> anyhow::Result<MadeUp> {
    let (model_dir, cache_dir) = (dir.join("model"), dir.join("cache"));
    write(&model_dir.join("model.toml"), MENU.as_bytes())?;
    write(&model_dir.join("model_index.json"), b"{}")?;
    let model = Model::load(&model_dir, None)?;
    let cache = Cache::new(&cache_dir);
    let shape = *model.menu.shapes.first().context("a shape")?;
    let shape_dir = cache.shape_dir(&model.menu.name, shape);
    let json = serde_json::to_vec(&manifest(&model))?;
    let name = Digest::of(&json).short(reel_bundle::cache::ID_DIGITS);
    let bundle = shape_dir.join(&name);
    write(&bundle.join("manifest.json"), &json)?;
    write(&bundle.join("tokenizer.json"), b"tokenizer")?;
    for role in ROLES {
        write(&bundle.join(format!("aot/{role}.pt2")), role.as_bytes())?;
    }
    let weights = cache.weights_dir(&model.menu.name);
    write(&weights.join("all.safetensors"), b"weights")?;
    symlink(&name, shape_dir.join("current"))?;
    Ok(MadeUp {
        model: model_dir,
        cache_dir,
    })
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    Ok(std::fs::write(path, bytes)?)
}

fn file(name: &str, content: &[u8]) -> Value {
    json!({"file": name, "bytes": content.len(), "sha256": Digest::of(content).to_string()})
}

fn manifest(model: &Model) -> Value {
    let component = |role: &&str| {
        let component = json!({
            "package": file(&format!("{role}.pt2"), role.as_bytes()),
            "weights": file("all.safetensors", b"weights"),
            "key": Digest::of(b"key").to_string(),
            "max_abs_error": 0.0,
        });
        ((*role).to_owned(), component)
    };
    let components: serde_json::Map<_, _> = ROLES.iter().map(component).collect();
    json!({
        "schema": SCHEMA,
        "recipe": RECIPE,
        "model": "nothing",
        "model_digest": model.digest.to_string(),
        "pipeline": "LTXConditionPipeline",
        "shape": "64x64@9f",
        "modes": ["t2v"],
        "max_batch": 8,
        "dtype": "float32",
        "device": "cpu",
        "components": components,
        "latent": {
            "channels": 1, "frames": 3, "height": 4, "width": 4, "temporal_ratio": 4, "spatial_ratio": 16,
            "mean": [0.0], "std": [1.0], "scaling_factor": 1.0,
        },
        "text": {
            "tokens": 32, "width": 8, "pad_id": 0, "pad_token": "<pad>",
            "tokenizer": file("tokenizer.json", b"tokenizer"),
        },
        "conditioning": {"i2v": 1, "extend": 9},
        "scheduler": {"num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": null},
        "environment": {
            "torch": TORCH, "triton": null, "cuda": null, "driver": null, "gpu": null,
            "cpu": {"arch": std::env::consts::ARCH, "flags": []},
        },
        "canary": {"seed": 1, "value": 1.0},
    })
}
