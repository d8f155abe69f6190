//! Tells the guard which compiler it was made with: other compilers make other instructions.

use std::env;
use std::process::Command;

fn main() {
    let compiler = env::var_os("RUSTC").expect("Cargo names the compiler");
    let said = Command::new(compiler).arg("--version").output().expect("the compiler says its version");
    println!("cargo::rustc-env=GUARD_RUSTC={}", String::from_utf8_lossy(&said.stdout).trim());
    println!("cargo::rerun-if-changed=build.rs");
}
