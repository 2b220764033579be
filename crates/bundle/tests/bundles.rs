//! Bundles on disk: what is ready, what is stale and by which field, what is refused.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so do its helpers"
)]

use reel_bundle::{Bundle, Cache, Digest, FileEntry, Manifest, Menu, Model, Requirements, State};
use reel_domain::Shape;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SHAPE: &str = "64x64@17f";

/// A cache with one bundle of made-up content.
struct Fixture {
    dir: TempDir,
    model: Model,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.toml"), MENU).unwrap();
        let menu = Menu::load(dir.path()).unwrap();
        let model = Model {
            dir: dir.path().into(),
            menu,
            digest: Digest::of(b"model"),
        };
        Self { dir, model }
    }

    fn cache(&self) -> Cache {
        Cache::new(self.dir.path().join("cache"))
    }

    fn shape(&self) -> Shape {
        SHAPE.parse().unwrap()
    }

    /// Writes the files that a manifest names, and the manifest under its own digest.
    fn publish(&self, manifest: &Value) -> PathBuf {
        let shape_dir = self.cache().shape_dir(&self.model.menu.name, self.shape());
        let json = serde_json::to_vec(manifest).unwrap();
        let bundle = shape_dir.join(Digest::of(&json).short(16));
        write(&bundle.join("manifest.json"), &json);
        write(&bundle.join("tokenizer.json"), b"tokenizer");
        for role in ROLES {
            write(&bundle.join(format!("aot/{role}.pt2")), role.as_bytes());
        }
        write(
            &self
                .cache()
                .weights_dir(&self.model.menu.name)
                .join("all.safetensors"),
            b"weights",
        );
        let _ = fs::remove_file(shape_dir.join("current"));
        symlink(bundle.file_name().unwrap(), shape_dir.join("current")).unwrap();
        bundle
    }

    fn state(&self) -> State {
        self.cache()
            .state(&self.model, self.shape(), &Requirements::cpu())
    }

    fn stale_field(&self) -> String {
        match self.state() {
            State::Stale(mismatch) => mismatch.field.into(),
            other => panic!("{other:?}"),
        }
    }
}

const ROLES: [&str; 4] = [
    "text_encoder",
    "transformer",
    "vae_decoder",
    "vae_encoder_i2v",
];

const MENU: &str = r#"
    name = "tiny"
    pipeline = "LTXConditionPipeline"
    description = "small"
    shapes = ["64x64@17f"]
    modes = ["t2v", "i2v"]
    max_batch = 8
    text_tokens = 32
    [defaults]
    shape = "64x64@17f"
    fps = 8
    num_inference_steps = 20
    guidance_scale = 3.0
    negative_prompt = ""
"#;

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn file(name: &str, content: &[u8]) -> Value {
    json!({"file": name, "bytes": content.len(), "sha256": Digest::of(content).to_string()})
}

fn component(role: &str) -> Value {
    json!({
        "package": file(&format!("{role}.pt2"), role.as_bytes()),
        "weights": file("all.safetensors", b"weights"),
        "key": Digest::of(b"key").to_string(),
        "max_abs_error": 1e-6,
    })
}

fn manifest() -> Value {
    let components: serde_json::Map<_, _> = ROLES
        .iter()
        .map(|role| (role.to_string(), component(role)))
        .collect();
    json!({
        "schema": 1,
        "recipe": reel_bundle::RECIPE,
        "model": "tiny",
        "model_digest": Digest::of(b"model").to_string(),
        "pipeline": "LTXConditionPipeline",
        "shape": SHAPE,
        "modes": ["t2v", "i2v"],
        "max_batch": 8,
        "dtype": "float32",
        "device": "cpu",
        "components": components,
        "latent": {
            "channels": 2, "frames": 5, "height": 4, "width": 4, "temporal_ratio": 4, "spatial_ratio": 16,
            "mean": [0.0, 0.0], "std": [1.0, 1.0], "scaling_factor": 1.0,
        },
        "text": {
            "tokens": 32, "width": 8, "pad_id": 0, "pad_token": "<pad>",
            "tokenizer": file("tokenizer.json", b"tokenizer"),
        },
        "conditioning": {"i2v": 1, "extend": 9},
        "scheduler": {"num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": null},
        "environment": {
            "torch": "2.11.0+cu130", "triton": null, "cuda": null, "driver": null, "gpu": null,
            "cpu": {"arch": std::env::consts::ARCH, "flags": []},
        },
        "canary": {"seed": 1, "value": 1.5},
    })
}

/// The manifest with one value replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut manifest = manifest();
    *manifest.pointer_mut(pointer).unwrap() = value;
    manifest
}

fn refusal(manifest: &Value) -> String {
    Manifest::parse(&serde_json::to_vec(manifest).unwrap())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_shape_that_was_never_baked_is_missing() {
    assert_eq!(Fixture::new().state(), State::Missing);
}

#[test]
fn a_published_bundle_is_ready() {
    let fixture = Fixture::new();
    let dir = fixture.publish(&manifest());
    let State::Ready(bundle) = fixture.state() else {
        panic!("{:?}", fixture.state())
    };
    assert_eq!(bundle.dir, fs::canonicalize(dir).unwrap());
    bundle.verify_all(&fixture.cache()).unwrap();
}

#[test]
fn a_bundle_of_something_else_is_stale_and_the_field_is_named() {
    let fixture = Fixture::new();
    let other = Digest::of(b"other").to_string();
    let cases = [
        ("/recipe", json!(999), "recipe"),
        ("/model_digest", json!(other), "model_digest"),
        ("/modes", json!(["t2v"]), "modes"),
        ("/max_batch", json!(4), "max_batch"),
        ("/dtype", json!("bfloat16"), "dtype"),
        ("/device", json!("cuda"), "device"),
        ("/text/tokens", json!(16), "text.tokens"),
        ("/conditioning/extend", json!(5), "conditioning.extend"),
        ("/environment/torch", json!("2.10.0"), "environment.torch"),
        (
            "/environment/cpu/flags",
            json!(["no_such_flag"]),
            "environment.cpu.flags",
        ),
        ("/schema", json!(2), "manifest"),
    ];
    for (pointer, value, field) in cases {
        fixture.publish(&with(pointer, value));
        assert_eq!(fixture.stale_field(), field);
    }
}

#[test]
fn a_missing_or_shortened_file_makes_a_bundle_stale() {
    let fixture = Fixture::new();
    let bundle = fixture.publish(&manifest());
    fs::write(bundle.join("aot/transformer.pt2"), "short").unwrap();
    assert_eq!(fixture.stale_field(), "files");
    fs::remove_file(bundle.join("aot/transformer.pt2")).unwrap();
    assert_eq!(fixture.stale_field(), "files");
}

#[test]
fn a_changed_package_of_the_same_size_is_found_when_it_is_loaded() {
    let fixture = Fixture::new();
    let dir = fixture.publish(&manifest());
    fs::write(dir.join("aot/transformer.pt2"), "tranSformer").unwrap();
    let error = Bundle::open(&dir)
        .unwrap()
        .verify(&fixture.cache())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("transformer.pt2") && error.contains("sha256"),
        "{error}"
    );
}

#[test]
fn a_manifest_that_was_edited_no_longer_fits_its_name() {
    let fixture = Fixture::new();
    let dir = fixture.publish(&manifest());
    let edited = serde_json::to_vec(&with("/canary/value", json!(2.5))).unwrap();
    fs::write(dir.join("manifest.json"), edited).unwrap();
    assert!(
        Bundle::open(&dir)
            .unwrap_err()
            .to_string()
            .contains("bundle_id")
    );
}

#[test]
fn names_that_could_leave_their_directory_are_refused() {
    for name in ["../x", "/etc/passwd", "", ".hidden", "a/b", "a\\b", "x\0"] {
        for pointer in [
            "/components/transformer/package/file",
            "/components/transformer/weights/file",
            "/text/tokenizer/file",
        ] {
            let message = refusal(&with(pointer, json!(name)));
            assert!(message.contains("is not a file name"), "{message}");
        }
    }
}

#[test]
fn values_that_cannot_be_are_refused_by_field() {
    let cases = [
        ("/schema", json!(7), "schema is 7"),
        ("/model", json!("../tiny"), "is not a model name"),
        ("/shape", json!("64x64"), "is not a shape"),
        ("/latent/frames", json!(4), "latent.frames"),
        ("/latent/mean", json!([0.0]), "latent.mean"),
        ("/latent/spatial_ratio", json!(0), "latent"),
        ("/conditioning/i2v", json!(2), "conditioning.i2v"),
        ("/max_batch", json!(0), "max_batch"),
        (
            "/components/transformer/max_abs_error",
            json!(0.01),
            "max_abs_error",
        ),
        (
            "/components/transformer/key",
            json!("abc"),
            "is not a digest",
        ),
        (
            "/scheduler/num_train_timesteps",
            json!(0),
            "num_train_timesteps",
        ),
    ];
    for (pointer, value, expected) in cases {
        let message = refusal(&with(pointer, value));
        assert!(message.contains(expected), "{pointer}: {message}");
    }
}

#[test]
fn unknown_fields_and_missing_packages_are_refused() {
    let mut unknown = manifest();
    unknown["surprise"] = json!(1);
    assert!(refusal(&unknown).contains("surprise"));
    let mut incomplete = manifest();
    incomplete["components"]
        .as_object_mut()
        .unwrap()
        .remove("vae_encoder_i2v");
    assert_eq!(
        refusal(&incomplete),
        "components.vae_encoder_i2v: is missing"
    );
}

#[test]
fn a_manifest_survives_being_written() {
    let manifest = Manifest::parse(&serde_json::to_vec(&manifest()).unwrap()).unwrap();
    let json = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(Manifest::parse(&json).unwrap(), manifest);
}

#[test]
fn a_canary_may_lie_a_thousandth_apart() {
    let canary = Manifest::parse(&serde_json::to_vec(&manifest()).unwrap())
        .unwrap()
        .canary;
    assert!(canary.agrees(1.5) && canary.agrees(1.5014) && canary.agrees(1.4986));
    assert!(!canary.agrees(1.502) && !canary.agrees(f32::NAN) && !canary.agrees(-1.5));
}

#[test]
fn a_file_entry_is_more_than_its_name() {
    let entry: FileEntry = serde_json::from_value(file("a.pt2", b"code")).unwrap();
    assert_eq!((entry.file.as_str(), entry.bytes), ("a.pt2", 4));
}
