//! Compiles the shim around AOTInductor's package loader and tells binaries where libtorch lies.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=shim/package.cpp");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = fs::canonicalize(find_libtorch()?)?;
    compile_shim(&libtorch);
    make_stub()?;
    let lib = libtorch.join("lib");
    println!("cargo::rustc-link-search=native={}", lib.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", lib.display());
    println!("cargo::metadata=libtorch={}", lib.display());
    Ok(())
}

/// The LIBTORCH of the environment, or the torch of the project's virtual environment.
fn find_libtorch() -> Result<PathBuf, Box<dyn Error>> {
    if let Some(path) = env::var_os("LIBTORCH") {
        return Ok(path.into());
    }
    let python = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../.venv/lib");
    let versions =
        fs::read_dir(&python).map_err(|error| format!("{}: {error}", python.display()))?;
    let mut found = versions
        .flatten()
        .map(|entry| entry.path().join("site-packages/torch"));
    found
        .find(|path| path.is_dir())
        .ok_or_else(|| "no torch in .venv: run `make setup`".into())
}

fn compile_shim(libtorch: &Path) {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag("-isystem")
        .flag(libtorch.join("include").display().to_string())
        .flag("-isystem")
        .flag(
            libtorch
                .join("include/torch/csrc/api/include")
                .display()
                .to_string(),
        )
        .file("shim/package.cpp")
        .compile("reel_engine_shim");
}

/// Packages name `libtorch.so` as a dependency, and the real one drags in the CUDA libraries. An empty
/// library of that name, loaded first, answers for it; see `runtime.rs`.
fn make_stub() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let source = out.join("stub.c");
    fs::write(&source, "")?;
    let status = Command::new(cc::Build::new().get_compiler().path())
        .args([
            "-shared",
            "-nostdlib",
            "-s",
            "-Wl,-soname,libtorch.so",
            "-o",
        ])
        .arg(out.join("libtorch.so"))
        .arg(&source)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err("cannot link the stub of libtorch.so".into())
    }
}
