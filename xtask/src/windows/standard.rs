//! The standard library of a target, built from the sources that the tool chain brings, into the place where its compiler
//! looks for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::Cache;
use super::cross::ToolChain;
use crate::command::{run, say};

/// How it is built. To be counted up when that changes, so that it is built anew.
const RECIPE: &str = "standard library 1";
/// `test` is the harness of `cargo test`; the others belong to `std`, and cargo must be told.
const CRATES: &str = "-Zbuild-std=std,panic_unwind,test";
/// A crate with nothing in it, because cargo builds a library only for somebody.
const MANIFEST: &str = "\
[package]
name = \"nobody\"
edition = \"2024\"
[lib]
path = \"lib.rs\"
[profile.release]
panic = \"unwind\"
[workspace]
";

/// What is needed of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Names and types, which are enough to check what is written for it.
    Metadata,
    /// All of it.
    Code,
}

impl Form {
    fn verb(self) -> &'static str {
        match self {
            Form::Metadata => "check",
            Form::Code => "build",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Form::Metadata => ".rmeta",
            Form::Code => ".rlib",
        }
    }
}

/// Builds it unless it is there. Code serves those who need its names only.
pub(super) fn provide(cache: &Cache, tools: &ToolChain, target: &str, form: Form) -> Result<(), String> {
    let name = format!("rust/usr/lib/rustlib/{target}");
    let form = if target == super::cross::WINDOWS { Form::Code } else { form };
    let recipe = format!("{RECIPE}, {} by {}", form.verb(), tools.name());
    cache.part(&name, &recipe, |partial, _| build(tools, target, form, partial)).map(drop)
}

fn build(tools: &ToolChain, target: &str, form: Form, partial: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", partial.display());
    let (folder, libraries) = (partial.join("build"), partial.join("lib"));
    for folder in [&folder, &libraries] {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(folder.join("Cargo.toml"), MANIFEST).map_err(failed)?;
    fs::write(folder.join("lib.rs"), "").map_err(failed)?;

    let seconds = if form == Form::Code { 90 } else { 60 };
    say(&format!("building the standard library for {target}: about {seconds} s"));
    let mut command: Command = tools.cargo(&folder);
    command.args([form.verb(), "--release", "--target", target, CRATES, "--message-format", "json-render-diagnostics"]);
    command.env("CARGO_TARGET_DIR", folder.join("target"));
    // The compiler is a stable one, and building its library is not for everyone yet.
    command.env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_ENCODED_RUSTFLAGS");
    // So that the workspace's release profile, which optimises across crates, can do so with this one.
    command.env("RUSTFLAGS", "-Cembed-bitcode=yes");
    let remedy = "Crates that it is built of come from the registry that cargo is set up for; is the network there?";
    let messages = run(&format!("the standard library for {target}"), &mut command, remedy)?;

    let made = artifacts(&messages, target, form.extension());
    if !made.iter().any(|file| name(file).starts_with("libstd-")) {
        return Err(format!(
            "cargo says that it has built the library for {target}, and names no libstd{}",
            form.extension()
        ));
    }
    for file in &made {
        fs::copy(file, libraries.join(&*name(file))).map_err(failed)?;
    }
    fs::remove_dir_all(folder).map_err(failed)?;
    Ok(format!("{} crates", made.len()))
}

/// The files of this kind that cargo says it has made for the target, but for the crate with nothing in it.
fn artifacts(messages: &str, target: &str, extension: &str) -> Vec<PathBuf> {
    const KEY: &str = "\"filenames\":[";
    let lists = messages.lines().filter_map(|line| line.split_once(KEY)?.1.split(']').next());
    let files = lists.flat_map(|list| list.split(',')).map(|file| file.trim_matches('"'));
    let of_target = files.filter(|file| file.contains(&format!("/{target}/")) && file.ends_with(extension));
    of_target.map(PathBuf::from).filter(|file| !name(file).starts_with("libnobody")).collect()
}

fn name(file: &Path) -> std::borrow::Cow<'_, str> {
    file.file_name().unwrap_or_default().to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_has_made_is_found_in_its_messages() {
        let messages = r#"
{"reason":"compiler-artifact","filenames":["/t/x/release/deps/libcore-1.rlib","/t/x/release/deps/libcore-1.rmeta"],"executable":null}
{"reason":"build-script-executed","package_id":"std"}
{"reason":"compiler-artifact","filenames":["/t/release/deps/libcc-2.rlib"],"executable":null}
{"reason":"compiler-artifact","filenames":["/t/x/release/deps/libstd-3.rlib"],"executable":null}
{"reason":"compiler-artifact","filenames":["/t/x/release/libnobody.rlib"],"executable":null}
"#;
        let expected: Vec<PathBuf> =
            vec!["/t/x/release/deps/libcore-1.rlib".into(), "/t/x/release/deps/libstd-3.rlib".into()];
        assert_eq!(artifacts(messages, "x", ".rlib"), expected);
        assert_eq!(artifacts(messages, "x", ".rmeta"), [PathBuf::from("/t/x/release/deps/libcore-1.rmeta")]);
        assert!(artifacts("", "x", ".rlib").is_empty());
    }
}
