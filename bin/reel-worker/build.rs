//! Writes libtorch's place into the program, so that it runs without any environment variable.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // From the engine's own build script, which found libtorch.
    if let Ok(libtorch) = std::env::var("DEP_REEL_ENGINE_LIBTORCH") {
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{libtorch}");
    }
}
